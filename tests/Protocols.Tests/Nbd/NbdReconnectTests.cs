using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Nbd;

/// <summary>Servers that crash (with a write cache that forgets), come back, or stall.</summary>
public sealed class NbdReconnectTests(ITestOutputHelper output) : NbdTestBase
{
    [Fact]
    public async Task Acknowledged_writes_survive_a_crash_of_the_server_before_the_flush()
    {
        using FakeNbdServer server = Fake();
        byte[] model = MakeContent();
        await using Graph graph = await OpenAsync(server.Uri, writable: true);
        TestPattern.Fill(model.AsSpan(0, 100_000), 0, 9);
        await graph.Root.WriteAsync(0, model.AsMemory(0, 100_000));
        TestPattern.Fill(model.AsSpan(50_176, 512), 50_176, 10); // over the first: order matters
        await graph.Root.WriteAsync(50_176, model.AsMemory(50_176, 512));
        model.AsSpan(131_072, 4096).Clear();
        await graph.Root.ZeroAsync(131_072, 4096);
        server.Crash();
        server.Start();
        await AssertContentAsync(graph.Root, model, "after the crash");
        await graph.Root.FlushAsync().AsTask().WaitAsync(Limit);
        Assert.True(server.Durable.AsSpan().SequenceEqual(model), "a flush succeeded without all the writes");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task Random_writes_through_random_crashes_lose_nothing(int seed)
    {
        output.WriteLine($"seed {seed}");
        using FakeNbdServer server = Fake(s => s.Flags |= (ushort)(seed % 2 == 0 ? 256 : 0));
        byte[] model = MakeContent();
        await using Graph graph = await OpenAsync(server.Uri, writable: true);
        using var done = new CancellationTokenSource();
        var crashing = Task.Run(() =>
        {
            var random = new Random(seed);
            while (!done.IsCancellationRequested)
            {
                int before = server.Accepted;
                SpinWait.SpinUntil(() => done.IsCancellationRequested, random.Next(5, 60));
                server.Crash();
                server.Start();
                SpinWait.SpinUntil(() => server.Accepted > before || done.IsCancellationRequested, 3000);
            }
        });

        // Each worker has a part of the disk of its own, so that the model needs no order between workers.
        int part = model.Length / 4 / 512 * 512;
        await Task.WhenAll(Enumerable.Range(0, 4).Select(worker => Task.Run(async () =>
        {
            var random = new Random((seed * 100) + worker);
            for (int i = 0; i < 60; i++)
            {
                int at = (worker * part) + (random.Next(part / 512) * 512);
                int count = Math.Min(random.Next(1, 40) * 512, ((worker + 1) * part) - at);
                switch (random.Next(6))
                {
                    case 0:
                        await graph.Root.FlushAsync();
                        break;
                    case 1:
                        model.AsSpan(at, count).Clear();
                        await graph.Root.ZeroAsync(at, count);
                        break;
                    case 2:
                        var found = new byte[count];
                        await graph.Root.ReadAsync(at, found);
                        TestPattern.AssertEqual(model.AsSpan(at, count), found, at, $"seed {seed}, worker {worker}, {i}");
                        break;
                    default:
                        TestPattern.Fill(model.AsSpan(at, count), at, random.Next());
                        await graph.Root.WriteAsync(
                            at, model.AsMemory(at, count), random.Next(4) == 0 ? WriteFlags.Fua : WriteFlags.None);
                        break;
                }
            }
        }))).WaitAsync(Limit);
        await done.CancelAsync();
        await crashing;
        await graph.Root.FlushAsync().AsTask().WaitAsync(Limit);
        TestPattern.AssertEqual(model, server.Durable, 0, $"seed {seed}: durable after the last flush");
        await AssertContentAsync(graph.Root, model, $"seed {seed}: at the end");
        output.WriteLine($"{server.Accepted} connections");
    }

    [Fact]
    public async Task A_write_that_cannot_be_repeated_makes_every_flush_fail()
    {
        using FakeNbdServer server = Fake(s => s.Options.Clear());
        Graph graph = await OpenAsync(server.Uri, writable: true);
        await graph.Root.WriteAsync(0, new byte[4096]);
        server.Crash();
        server.Answer = request => request.Command == 1 ? FakeNbdServer.Simple(request.Cookie, 28) : null;
        server.Start();
        for (int i = 0; i < 2; i++)
        {
            await AssertRefusedAsync(
                BlockErrorKind.NoSpace, "could not be written again",
                () => graph.Root.FlushAsync().AsTask().WaitAsync(Limit));
        }

        await Assert.ThrowsAsync<BlockException>(() => graph.CloseAsync().AsTask().WaitAsync(Limit));
    }

    [Fact]
    public async Task A_failed_flush_is_remembered()
    {
        using FakeNbdServer server = Fake(s => s.Options.Clear());
        bool fails = true;
        server.Answer = request => request.Command == 3 && fails ? FakeNbdServer.Simple(request.Cookie, 5) : null;
        Graph graph = await OpenAsync(server.Uri, writable: true);
        await graph.Root.WriteAsync(0, new byte[4096]);
        await AssertRefusedAsync(BlockErrorKind.IoError, "flush", async () => await graph.Root.FlushAsync());
        fails = false;
        await AssertRefusedAsync(BlockErrorKind.IoError, "flush", async () => await graph.Root.FlushAsync());
        await Assert.ThrowsAsync<BlockException>(async () => await graph.CloseAsync());
    }

    [Fact]
    public async Task Without_a_delay_requests_fail_at_once()
    {
        using FakeNbdServer server = Fake();
        await using Graph graph = await OpenAsync(server.Uri, options: ("reconnect-delay", "0"));
        server.Crash();
        long began = Environment.TickCount64;
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "is lost", async () => await graph.Root.ReadAsync(0, new byte[512]).AsTask().WaitAsync(Limit));
        Assert.InRange(Environment.TickCount64 - began, 0, 5000);
    }

    [Fact]
    public async Task With_a_delay_requests_wait_that_long_and_no_longer()
    {
        using FakeNbdServer server = Fake();
        await using Graph graph = await OpenAsync(server.Uri, options: ("reconnect-delay", "1"));
        server.Crash();
        long began = Environment.TickCount64;
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "is lost", async () => await graph.Root.ReadAsync(0, new byte[512]).AsTask().WaitAsync(Limit));
        Assert.InRange(Environment.TickCount64 - began, 800, 8000);
        server.Start();
        Assert.True(
            SpinWait.SpinUntil(() => graph.Root.ReadAsync(0, new byte[512]).AsTask().ContinueWith(
                task => task.IsCompletedSuccessfully, TaskScheduler.Default).Result, Limit),
            "it did not come back");
    }

    [Fact]
    public async Task A_server_that_comes_back_with_another_disk_is_not_used()
    {
        using FakeNbdServer server = Fake();
        await using Graph graph = await OpenAsync(server.Uri, options: ("reconnect-delay", "1"));
        server.Crash();
        server.Size = 4096;
        server.Start();
        await AssertRefusedAsync(
            BlockErrorKind.IoError, "another export",
            async () => await graph.Root.ReadAsync(0, new byte[512]).AsTask().WaitAsync(Limit));
    }

    [Fact]
    public async Task A_server_that_stalls_is_given_up_and_tried_again()
    {
        using FakeNbdServer server = Fake();
        var gate = new TaskCompletionSource();
        server.Before = request => server.Accepted == 1 ? gate.Task : Task.CompletedTask;
        await using Graph graph = await OpenAsync(server.Uri, options: ("timeout", "1"));
        await AssertContentAsync(graph.Root, MakeContent(), "from the second connection");
        Assert.Equal(2, server.Accepted);
        gate.SetResult();
    }

    [Fact]
    public async Task A_server_that_never_answers_does_not_hold_up_closing()
    {
        using FakeNbdServer server = Fake();
        var gate = new TaskCompletionSource();
        server.Before = _ => gate.Task;
        Graph graph = await OpenAsync(server.Uri, writable: true);
        Task read = graph.Root.ReadAsync(0, new byte[512]).AsTask();
        Task write = graph.Root.WriteAsync(4096, new byte[512]).AsTask();
        long began = Environment.TickCount64;
        graph.StopWaiting(TimeSpan.FromSeconds(1));
        await Assert.ThrowsAsync<BlockException>(() => read.WaitAsync(Limit));
        await Assert.ThrowsAsync<BlockException>(() => write.WaitAsync(Limit));
        await graph.CloseAsync().AsTask().WaitAsync(Limit);
        Assert.InRange(Environment.TickCount64 - began, 0, 8000);
        gate.SetResult();
    }

    [Fact]
    public async Task The_first_connection_is_tried_for_the_open_timeout()
    {
        using FakeNbdServer server = Fake();
        server.Crash();
        Task<Graph> opening = OpenAsync(server.Uri, options: ("open-timeout", "20"));
        await AssertRefusedAsync(BlockErrorKind.NotFound, "no such socket", () => OpenAsync(
            server.Uri.Replace("fake", "other", StringComparison.Ordinal)));
        server.Start();
        await using Graph graph = await opening.WaitAsync(Limit);
        await AssertContentAsync(graph.Root, MakeContent(), "opened late");
    }

    [Fact]
    public async Task Much_that_is_not_flushed_is_flushed_by_and_by()
    {
        // 24 times the disk's 512 KiB, unflushed, with a log that holds much less than all.
        using FakeNbdServer server = Fake();
        int flushes = 0;
        server.Answer = request =>
        {
            flushes += request.Command == 3 ? 1 : 0;
            return null;
        };
        await using Graph graph = await OpenAsync(server.Uri, writable: true);
        byte[] data = TestPattern.Make(512 << 10, 0, 3);
        for (int i = 0; i < 160; i++)
        {
            await graph.Root.WriteAsync(0, data).AsTask().WaitAsync(Limit);
        }

        Assert.InRange(flushes, 1, 160);
    }
}
