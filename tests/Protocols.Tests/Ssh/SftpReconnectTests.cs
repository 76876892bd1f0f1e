using ImageMount.Core.Block;
using ImageMount.Protocols.Ssh;
using ImageMount.TestSupport;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Ssh;

/// <summary>Servers that crash (with a page cache that forgets), come back, refuse, or say nothing.</summary>
public sealed class SftpReconnectTests(ITestOutputHelper output) : SftpTestBase
{
    private static CancellationToken None => CancellationToken.None;

    [Fact]
    public async Task Acknowledged_writes_and_growth_survive_a_crash_before_the_flush()
    {
        using var server = new FakeSftpServer(MakeContent());
        byte[] model = MakeContent();
        SshDevice disk = await OpenAsync(server, writable: true);
        TestPattern.Fill(model.AsSpan(0, 200_000), 0, 9);
        await disk.WriteAsync(0, model.AsMemory(0, 200_000), WriteFlags.None, None);
        TestPattern.Fill(model.AsSpan(99_000, 512), 99_000, 10); // over the first: order matters
        await disk.WriteAsync(99_000, model.AsMemory(99_000, 512), WriteFlags.None, None);
        Assert.True(await disk.TryResizeAsync(400_000, None));
        Array.Resize(ref model, 400_000);
        TestPattern.Fill(model.AsSpan(390_000), 390_000, 11);
        await disk.WriteAsync(390_000, model.AsMemory(390_000), WriteFlags.None, None);
        server.Crash();
        await AssertContentAsync(disk, model, "after the crash");
        await disk.FlushAsync(None).AsTask().WaitAsync(Limit);
        TestPattern.AssertEqual(model, server.Durable, 0, "durable");
        await disk.CloseAsync();
    }

    [Fact]
    public async Task Growing_forgets_what_was_read_ahead_up_to_the_old_end()
    {
        using var server = new FakeSftpServer(MakeContent());
        byte[] model = MakeContent();
        SshDevice disk = await OpenAsync(server, writable: true);
        var found = new byte[10_000];
        for (int at = 0; at < 290_000; at += found.Length)
        {
            await disk.ReadAsync(at, found, None).AsTask().WaitAsync(Limit);
        }

        Assert.True(await disk.TryResizeAsync(400_000, None));
        Array.Resize(ref model, 400_000);
        await disk.ReadAsync(295_000, found, None).AsTask().WaitAsync(Limit);
        TestPattern.AssertEqual(model.AsSpan(295_000, 10_000), found, 295_000, "across the old end");
        await disk.CloseAsync();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Random_writes_through_random_crashes_lose_nothing(int seed)
    {
        output.WriteLine($"seed {seed}");
        using var server = new FakeSftpServer(MakeContent(), seed) { IsMessy = seed % 2 == 0, Limit = seed == 3 ? 0 : 8192 };
        byte[] model = MakeContent();
        SshDevice disk = await OpenAsync(server, writable: true);
        using var done = new CancellationTokenSource();
        var crashing = Task.Run(() =>
        {
            var random = new Random(seed);
            while (!done.IsCancellationRequested)
            {
                int before = server.Accepted;
                SpinWait.SpinUntil(() => done.IsCancellationRequested, random.Next(5, 60));
                server.Crash();
                SpinWait.SpinUntil(() => server.Accepted > before || done.IsCancellationRequested, 3000);
            }
        });

        // Each worker has a part of the disk of its own, so that the model needs no order between workers.
        int part = model.Length / 4;
        await Task.WhenAll(Enumerable.Range(0, 4).Select(worker => Task.Run(async () =>
        {
            var random = new Random((seed * 100) + worker);
            for (int i = 0; i < 50; i++)
            {
                int at = (worker * part) + random.Next(part);
                int count = Math.Min(random.Next(1, 30_000), ((worker + 1) * part) - at);
                switch (random.Next(5))
                {
                    case 0:
                        await disk.FlushAsync(None);
                        break;
                    case 1:
                        var found = new byte[count];
                        await disk.ReadAsync(at, found, None);
                        TestPattern.AssertEqual(model.AsSpan(at, count), found, at, $"seed {seed}, worker {worker}, {i}");
                        break;
                    default:
                        TestPattern.Fill(model.AsSpan(at, count), at, random.Next());
                        await disk.WriteAsync(at, model.AsMemory(at, count), WriteFlags.None, None);
                        break;
                }
            }
        }))).WaitAsync(Limit);
        await done.CancelAsync();
        await crashing;
        await disk.FlushAsync(None).AsTask().WaitAsync(Limit);
        TestPattern.AssertEqual(model, server.Durable, 0, $"seed {seed}: durable after the last flush");
        await AssertContentAsync(disk, model, $"seed {seed}: at the end");
        await disk.CloseAsync();
        output.WriteLine($"{server.Accepted} connections");
    }

    [Fact]
    public async Task A_file_of_another_size_is_not_used()
    {
        using var server = new FakeSftpServer(MakeContent());
        SshDevice disk = await OpenAsync(server, writable: true, Options with { ReconnectDelay = 1 });
        server.Durable = new byte[100];
        server.Crash();
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "another file",
            () => disk.ReadAsync(0, new byte[10], None).AsTask().WaitAsync(Limit));
        await disk.CloseAsync();
    }

    [Fact]
    public async Task A_write_that_cannot_be_repeated_makes_every_flush_fail()
    {
        using var server = new FakeSftpServer(MakeContent());
        SshDevice disk = await OpenAsync(server, writable: true);
        await disk.WriteAsync(0, new byte[4096], WriteFlags.None, None);
        server.Answer = (type, id, _) => type == 6 ? FakeSftpServer.Status(id, 4, "No space left on device") : null;
        server.Crash();
        for (int i = 0; i < 2; i++)
        {
            await AssertRefusedAsync(
                BlockErrorKind.IoError, "could not be written again",
                () => disk.FlushAsync(None).AsTask().WaitAsync(Limit));
        }

        await Assert.ThrowsAsync<BlockException>(() => disk.CloseAsync().AsTask().WaitAsync(Limit));
    }

    [Fact]
    public async Task A_failed_flush_is_remembered()
    {
        using var server = new FakeSftpServer(MakeContent());
        bool fails = true;
        server.Answer = (type, id, body) => type == 200 && body[4] == 'f' && fails ? FakeSftpServer.Status(id, 4) : null;
        SshDevice disk = await OpenAsync(server, writable: true);
        await disk.WriteAsync(0, new byte[4096], WriteFlags.None, None);
        await AssertRefusedAsync(BlockErrorKind.IoError, "flush", () => disk.FlushAsync(None).AsTask());
        fails = false;
        await AssertRefusedAsync(BlockErrorKind.IoError, "flush", () => disk.FlushAsync(None).AsTask());
        await Assert.ThrowsAsync<BlockException>(() => disk.CloseAsync().AsTask());
    }

    [Fact]
    public async Task Without_fsync_there_is_a_warning_and_nothing_is_promised()
    {
        using var server = new FakeSftpServer(MakeContent()) { HasFsync = false };
        SshDevice disk = await OpenAsync(server, writable: true, Options with { ReconnectDelay = 1 });
        Assert.Contains("cannot flush", Assert.Single(Warnings), StringComparison.Ordinal);
        Assert.True(await disk.TryResizeAsync(400_000, None));
        await disk.WriteAsync(0, new byte[4096], WriteFlags.None, None);
        await disk.FlushAsync(None);

        // The size is lost, and with it more than anybody knows: no zeroes are made up in its place.
        server.Crash();
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "another file", () => disk.ReadAsync(0, new byte[10], None).AsTask().WaitAsync(Limit));
        await disk.CloseAsync();
    }

    [Fact]
    public async Task Without_a_delay_requests_fail_at_once()
    {
        using var server = new FakeSftpServer(MakeContent());
        SshDevice disk = await OpenAsync(server, options: Options with { ReconnectDelay = 0 });
        server.IsDown = true;
        server.Crash();
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "is lost", () => disk.ReadAsync(0, new byte[512], None).AsTask().WaitAsync(Limit));
        await disk.CloseAsync();
    }

    [Fact]
    public async Task A_server_that_says_nothing_is_given_up_and_tried_again()
    {
        using var server = new FakeSftpServer(MakeContent());
        var gate = new TaskCompletionSource();
        server.Before = type => server.Accepted == 1 && type == 5 ? gate.Task : Task.CompletedTask;
        SshDevice disk = await OpenAsync(server, options: Options with { Timeout = 1 });
        await AssertContentAsync(disk, MakeContent(), "from the second connection");
        Assert.Equal(2, server.Accepted);
        gate.SetResult();
        await disk.CloseAsync();
    }

    [Fact]
    public async Task A_server_that_says_nothing_holds_up_neither_cancelling_nor_closing()
    {
        using var server = new FakeSftpServer(MakeContent());
        var gate = new TaskCompletionSource();
        server.Before = type => type == 5 ? gate.Task : Task.CompletedTask;
        SshDevice disk = await OpenAsync(server, options: Options with { Timeout = 0 });
        using var cancel = new CancellationTokenSource();
        Task cancelled = disk.ReadAsync(0, new byte[512], cancel.Token).AsTask();
        await cancel.CancelAsync();
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => cancelled.WaitAsync(Limit));
        Assert.Equal(BlockErrorKind.Cancelled, e.Kind);
        disk.StopWaiting(TimeSpan.FromSeconds(1));
        await disk.CloseAsync().AsTask().WaitAsync(Limit);
        gate.SetResult();
    }
}
