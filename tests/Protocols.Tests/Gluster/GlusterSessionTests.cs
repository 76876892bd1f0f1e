using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols.Gluster;
using ImageMount.Protocols.Remote;
using ImageMount.TestSupport;

namespace ImageMount.Protocols.Tests.Gluster;

/// <summary>Bricks that crash, connections that are lost, and who shares them.</summary>
public sealed class GlusterSessionTests : GlusterTestBase
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task What_a_brick_forgets_in_a_crash_is_there_after_the_flush(bool reopens)
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        library.Reopens = reopens; // Then nothing but the lock tells.
        GlusterDevice disk = await OpenAsync(library, writable: true);
        await WriteAsync(disk, model, 10, 50_000, 2);
        await FlushAsync(disk);
        await WriteAsync(disk, model, 20_000, 50_000, 3);
        Assert.True(await disk.TryZeroAsync(100_000, 1000, ZeroFlags.None, CancellationToken.None));
        model.AsSpan(100_000, 1000).Clear();
        library.Crash();
        Assert.NotEqual(model, library.Disk);
        await FlushAsync(disk);
        Assert.Equal(model, library.Durable);
        await AssertContentAsync(disk, model, "after the flush");
        Assert.Equal(2, library.Opens);
        await disk.CloseAsync().AsTask().WaitAsync(Limit);
    }

    [Fact]
    public async Task A_lost_growth_is_made_again_and_any_other_size_is_another_file()
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        GlusterDevice disk = await OpenAsync(
            library, writable: true, Patient with { ReconnectDelay = TimeSpan.FromSeconds(1) });
        Assert.True(await disk.TryResizeAsync(400_000, CancellationToken.None));
        Array.Resize(ref model, 400_000);
        await WriteAsync(disk, model, 350_000, 50_000, 2);
        library.Crash();
        Assert.Equal(300_001, library.Disk.Length);
        await FlushAsync(disk);
        Assert.Equal(model, library.Durable);

        library.Durable = library.Durable[..1000];
        await WriteAsync(disk, model, 0, 10, 2);
        library.Crash();
        await AssertRefusedAsync(BlockErrorKind.IoError, "another file", () => FlushAsync(disk));
        await Assert.ThrowsAsync<BlockException>(() => disk.CloseAsync().AsTask().WaitAsync(Limit));
    }

    /// <summary>Writes, flushes and crashes at random; after each flush everything before it is durable.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Crashes_at_any_moment_lose_nothing_that_was_flushed_or_acknowledged(int seed)
    {
        byte[] model = MakeContent(100_000);
        FakeGfapi library = Fake(model);
        var random = new Random(seed);
        int untilCrash = 5;
        library.Decide = command =>
        {
            lock (random)
            {
                if (--untilCrash == 0)
                {
                    untilCrash = random.Next(2, 200);
                    library.Crash();
                }

                return random.Next(200) switch
                {
                    0 => (FakeGfapiDoes.Fail, Errno.ENOTCONN),
                    1 => (FakeGfapiDoes.Refuse, Errno.EBADFD),
                    < 10 when command.Operation <= GfapiOperation.Write => (FakeGfapiDoes.Short, 700),
                    < 20 => (FakeGfapiDoes.AtOnce, 0),
                    _ => (FakeGfapiDoes.Usual, 0),
                };
            }
        };
        GlusterDevice disk = await OpenAsync(library, writable: true);
        const int part = 1000;
        for (int round = 0; round < 40; round++)
        {
            await Task.WhenAll(Enumerable.Range(0, 8).Select(i =>
            {
                int at = (((round * 7) + i) % 100) * part;
                return WriteAsync(disk, model, at, part, (round * 10) + i);
            }));
            if (round % 5 == 4)
            {
                await FlushAsync(disk);
                Assert.True(model.AsSpan().SequenceEqual(library.Durable), $"seed {seed}, round {round}");
            }
        }

        library.Decide = _ => (FakeGfapiDoes.Usual, 0);
        await disk.CloseAsync().AsTask().WaitAsync(Limit);
        Assert.Equal(model, library.Durable);
        WaitUntil(() => library.OpenFiles == 0, "files stay open");
    }

    [Fact]
    public async Task Requests_wait_while_the_bricks_are_away_and_fail_when_it_takes_too_long()
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        GlusterDevice disk = await OpenAsync(library, writable: true);
        library.IsDown = true;
        Task write = WriteAsync(disk, model, 0, 1000, 4);
        WaitUntil(() => library.Commands.Any(command => command.Operation == GfapiOperation.Write), "it was not sent");
        Assert.False(write.IsCompleted);
        library.IsDown = false;
        await write;
        await disk.CloseAsync().AsTask().WaitAsync(Limit);
        Assert.Equal(model, library.Durable);

        disk = await OpenAsync(library, writable: false, Patient with { ReconnectDelay = TimeSpan.FromMilliseconds(300) });
        library.IsDown = true;
        await AssertRefusedAsync(BlockErrorKind.IoError, "cannot be reached", () => ReadAsync(disk, 0, 100));
        await disk.CloseAsync().AsTask().WaitAsync(Limit);
    }

    [Fact]
    public async Task A_brick_that_holds_on_to_the_old_connection_is_waited_for()
    {
        byte[] model = MakeContent();
        FakeGfapi library = Fake(model);
        GlusterDevice disk = await OpenAsync(library, writable: true);
        int refusals = 0;
        library.OnFence = () => ++refusals < 5 ? -Errno.EAGAIN : 0;
        await WriteAsync(disk, model, 0, 1000, 4);
        library.Crash();
        await FlushAsync(disk);
        Assert.Equal(model, library.Durable);
        Assert.Equal(5, refusals);
        Assert.Empty(Warnings);
        await disk.CloseAsync().AsTask().WaitAsync(Limit);
    }

    [Fact]
    public async Task A_volume_without_locks_is_used_with_a_warning()
    {
        FakeGfapi library = Fake(MakeContent());
        library.OnFence = () => -Errno.EOPNOTSUPP;
        GlusterDevice disk = await OpenAsync(library, writable: true);
        Assert.Contains("no locks", Assert.Single(Warnings), StringComparison.Ordinal);
        await WriteAsync(disk, MakeContent(), 0, 1000, 4);
        await FlushAsync(disk);
        await disk.CloseAsync().AsTask().WaitAsync(Limit);
    }

    [Fact]
    public async Task Readers_take_no_lock()
    {
        FakeGfapi library = Fake(MakeContent());
        library.OnFence = () => throw new InvalidOperationException();
        GlusterDevice disk = await OpenAsync(library);
        await AssertContentAsync(disk, MakeContent(), "read");
        await disk.CloseAsync().AsTask().WaitAsync(Limit);
    }

    [Fact]
    public async Task One_connection_is_shared_kept_for_a_while_and_ended_when_nobody_uses_it()
    {
        FakeGfapi library = Fake(MakeContent());
        var volumes = new GlusterVolumes(library, TimeSpan.FromMilliseconds(50));
        GlusterDevice[] disks = await Task.WhenAll(
            Enumerable.Range(0, 5).Select(_ => OpenAsync(library, volumes: volumes)));
        Assert.Equal((1, 1, 5), (volumes.Count, library.Connects, library.Opens));
        foreach (GlusterDevice disk in disks)
        {
            Assert.Equal(0, library.Finishes);
            await AssertContentAsync(disk, MakeContent(), "shared");
            await disk.CloseAsync().AsTask().WaitAsync(Limit);
        }

        WaitUntil(() => library.Finishes == 1 && volumes.Count == 0, "the connection is not ended");
        GlusterDevice again = await OpenAsync(library, volumes: volumes);
        Assert.Equal(2, library.Connects);
        await again.CloseAsync().AsTask().WaitAsync(Limit);
    }

    [Fact]
    public async Task A_volume_that_cannot_be_reached_is_told_and_tried_anew_the_next_time()
    {
        FakeGfapi library = Fake(MakeContent());
        var volumes = new GlusterVolumes(library, TimeSpan.FromMinutes(10));
        foreach ((int errno, BlockErrorKind kind, string words) in ((int, BlockErrorKind, string)[])
            [(Errno.ENOENT, BlockErrorKind.NotFound, "no started volume 'v'"),
            (Errno.ENOTCONN, BlockErrorKind.IoError, "nobody answers"),
            (Errno.EACCES, BlockErrorKind.PermissionDenied, "auth.allow"),
            (Errno.EIO, BlockErrorKind.IoError, "bricks may be down")])
        {
            library.OnConnect = () => -errno;
            await AssertRefusedAsync(kind, words, () => OpenAsync(library, volumes: volumes));
        }

        library.OnConnect = () => 0;
        library.OnOpen = () => -Errno.ENOENT;
        await AssertRefusedAsync(BlockErrorKind.NotFound, "cannot open 'disk'", () => OpenAsync(library, volumes: volumes));
        library.OnOpen = () => 0;
        await (await OpenAsync(library, volumes: volumes)).CloseAsync().AsTask().WaitAsync(Limit);
        Assert.Equal(5, library.Connects);
    }

    [Fact]
    public async Task Connecting_and_opening_do_not_take_for_ever()
    {
        FakeGfapi library = Fake(MakeContent());
        using var gate = new ManualResetEventSlim();
        LinkPolicy hasty = Patient with { TryTimeout = TimeSpan.FromMilliseconds(300) };
        var volumes = new GlusterVolumes(library, TimeSpan.FromMilliseconds(50));
        library.OnConnect = () =>
        {
            gate.Wait(Limit);
            return 0;
        };
        await AssertRefusedAsync(BlockErrorKind.TimedOut, "did not answer", () => OpenAsync(library, false, hasty, volumes));
        gate.Set();
        WaitUntil(() => library.Finishes == 1, "a connection that came late is not ended");

        gate.Reset();
        library.OnOpen = library.OnConnect;
        library.OnConnect = () => 0;
        await AssertRefusedAsync(BlockErrorKind.TimedOut, "did not answer", () => OpenAsync(library, false, hasty, volumes));
        Assert.Equal(0, library.OpenFiles);
        gate.Set();
        WaitUntil(() => library is { Finishes: 2, OpenFiles: 0, Opens: 1 }, "a file that came late is not closed");
    }
}
