using ImageMount.Fuse.Protocol;
using ImageMount.Fuse.Transport;

namespace ImageMount.Fuse.Tests.Wire;

/// <summary>Requests that suspend: answered later, interrupted, drained, and their buffers given back.</summary>
public sealed class SuspensionTests
{
    private static readonly TimeSpan s_watchdog = TimeSpan.FromSeconds(30);

    /// <summary>Reads wait until the test lets them go, or until they are cancelled.</summary>
    private sealed class Gate : FuseFileSystem
    {
        public Dictionary<long, TaskCompletionSource<int>> Reads { get; } = [];

        public TaskCompletionSource Destroyed { get; } = new();

        public Exception? DestroyFails { get; set; }

        public override ValueTask<FuseResult<FuseAttributes>> GetAttributesAsync(
            FuseRequestContext context, ulong inode, ulong? handle, CancellationToken cancellationToken) =>
            FuseResult<FuseAttributes>.Completed(RecordingFileSystem.Attributes);

        public override async ValueTask<int> ReadAsync(
            FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
            CancellationToken cancellationToken)
        {
            var source = new TaskCompletionSource<int>();
            Reads[offset] = source;
            using (cancellationToken.Register(() => source.TrySetCanceled(cancellationToken)))
            {
                int count = await source.Task.ConfigureAwait(false);
                destination.Span[..Math.Max(count, 0)].Fill((byte)offset);
                return count;
            }
        }

        public override ValueTask DestroyAsync()
        {
            Destroyed.TrySetResult();
            return DestroyFails is null ? default : ValueTask.FromException(DestroyFails);
        }
    }

    [Fact]
    public void Suspended_read_is_answered_when_it_completes_and_its_buffer_returns()
    {
        var fileSystem = new Gate();
        using var harness = new WireHarness(fileSystem);
        ulong first = Read(harness, offset: 1);
        ulong second = Read(harness, offset: 2);
        Assert.Equal(2, harness.Server.Counters().InFlight);
        Assert.Null(harness.ReplyTo(first));

        fileSystem.Reads[2].SetResult(3);
        Assert.Equal(WireBytes.Parse($"4:19 4:0 8:{second} x:020202"), harness.Await(second));
        Assert.Null(harness.ReplyTo(first));
        Assert.Equal(1, harness.Recycled);

        fileSystem.Reads[1].SetResult(-Errno.ENOSPC);
        Assert.Equal(-Errno.ENOSPC, WireHarness.Error(harness.Await(first)));
        Assert.Equal(2, harness.Recycled);
        Assert.Equal(0, harness.Server.Counters().InFlight);
        Assert.Equal(2, harness.Server.Counters().Suspended);
    }

    [Fact]
    public void Interrupt_cancels_the_request_it_names_and_no_other()
    {
        var fileSystem = new Gate();
        using var harness = new WireHarness(fileSystem);
        ulong first = Read(harness, offset: 1);
        ulong second = Read(harness, offset: 2);
        Assert.Null(Interrupt(harness, second)); // a hit is not answered
        Assert.Equal(-Errno.EINTR, WireHarness.Error(harness.Await(second)));
        Assert.Null(harness.ReplyTo(first));
        Assert.Equal(1, harness.Server.Counters().Interrupted);

        // The place is used again: the next request there must not be born cancelled.
        ulong third = Read(harness, offset: 3);
        fileSystem.Reads[3].SetResult(1);
        Assert.Equal(0, WireHarness.Error(harness.Await(third)));
        fileSystem.Reads[1].SetResult(0);
        Assert.Equal(0, WireHarness.Error(harness.Await(first)));
    }

    [Fact]
    public void Interrupt_of_an_answered_request_asks_the_kernel_to_come_again()
    {
        var fileSystem = new Gate();
        using var harness = new WireHarness(fileSystem);
        ulong read = Read(harness, offset: 1);
        fileSystem.Reads[1].SetResult(0);
        harness.Await(read);
        byte[] reply = Interrupt(harness, read)!;
        Assert.Equal(-Errno.EAGAIN, WireHarness.Error(reply));
        Assert.Equal(16, reply.Length);
    }

    [Fact]
    public async Task Drain_waits_for_what_was_in_flight_and_for_nothing_later()
    {
        var fileSystem = new Gate();
        using var harness = new WireHarness(fileSystem);
        Assert.True(harness.Server.DrainAsync(default).IsCompletedSuccessfully);
        ulong first = Read(harness, offset: 1);
        Read(harness, offset: 2);
        Task drain = harness.Server.DrainAsync(default);
        Read(harness, offset: 3);
        fileSystem.Reads[1].SetResult(0);
        harness.Await(first);
        Assert.False(drain.IsCompleted);
        fileSystem.Reads[2].SetResult(0);
        await drain.WaitAsync(s_watchdog);
        Assert.False(fileSystem.Reads[3].Task.IsCompleted);
        fileSystem.Reads[3].SetResult(0);
    }

    [Fact]
    public async Task Destroy_is_answered_after_the_hook_which_runs_after_everything_else()
    {
        var fileSystem = new Gate();
        using var harness = new WireHarness(fileSystem);
        Read(harness, offset: 1);
        Assert.Null(harness.Send(38, 0, []));
        ulong destroy = harness.LastUnique;
        Assert.False(fileSystem.Destroyed.Task.IsCompleted);
        // What comes after DESTROY is refused.
        Assert.Equal(-Errno.EIO, WireHarness.Error(harness.Send(3, 1, new byte[16])!));
        fileSystem.Reads[1].SetResult(0);
        await harness.Server.DestroyAsync().WaitAsync(s_watchdog);
        await harness.Server.DrainAsync(default).WaitAsync(s_watchdog);
        Assert.True(fileSystem.Destroyed.Task.IsCompleted);
        Assert.Equal(0, WireHarness.Error(harness.Await(destroy)));
    }

    [Fact]
    public async Task Destroy_hook_that_fails_is_told_to_the_kernel_and_to_the_waiter()
    {
        var fileSystem = new Gate { DestroyFails = new FuseException(Errno.EIO, "flush failed") };
        using var harness = new WireHarness(fileSystem);
        byte[] reply = harness.Send(38, 0, [])!;
        Assert.Equal(-Errno.EIO, WireHarness.Error(reply));
        FuseException e = await Assert.ThrowsAsync<FuseException>(
            () => harness.Server.DestroyAsync().WaitAsync(s_watchdog));
        Assert.Equal("flush failed", e.Message);
    }

    [Fact]
    public void Interrupts_racing_with_completions_answer_every_request_once()
    {
        const int Rounds = 2000;
        var fileSystem = new Gate();
        using var harness = new WireHarness(fileSystem);
        for (int i = 0; i < Rounds; i++)
        {
            ulong read = Read(harness, offset: i);
            using var start = new Barrier(2);
            var completer = new Thread(() =>
            {
                start.SignalAndWait();
                fileSystem.Reads[i].TrySetResult(0);
            });
            completer.Start();
            int before = harness.ReplyCount;
            start.SignalAndWait();
            bool hit = harness.Server.Interrupt(read);
            completer.Join();
            harness.Await(read);
            Assert.True(harness.ReplyCount == before + 1, $"round {i}, hit {hit}");
        }
        Assert.Equal(Rounds, harness.Recycled);
        Assert.Equal(0, harness.Server.Counters().InFlight);
    }

    [Fact]
    public void Pool_at_its_bound_makes_the_next_taker_wait_for_a_return()
    {
        using var pool = new FuseRequestPool(8192, byteLimit: 1, workers: 1); // one a worker, and one to spare
        FuseRequest first = pool.Take()!;
        FuseRequest second = pool.Take()!;
        FuseRequest? third = null;
        var taker = new Thread(() => third = pool.Take());
        taker.Start();
        pool.Return(first);
        Assert.True(taker.Join(s_watchdog));
        Assert.Same(first, third);
        Assert.Equal(2, pool.All.Count);
        pool.Return(second);
    }

    [Fact]
    public void Pool_that_is_closed_lets_its_waiters_go()
    {
        using var pool = new FuseRequestPool(8192, byteLimit: 1, workers: 1);
        pool.Take();
        pool.Take();
        FuseRequest? third = new(new FuseBuffer(4096));
        FuseRequest unused = third;
        var taker = new Thread(() => third = pool.Take());
        taker.Start();
        pool.Close();
        Assert.True(taker.Join(s_watchdog));
        Assert.Null(third);
        unused.Dispose();
    }

    private static ulong Read(WireHarness harness, long offset)
    {
        Assert.Null(harness.Send(15, 5, WireBytes.Parse($"8:99 8:{offset} 4:4096 4:0 8:0 4:0 4:0")));
        return harness.LastUnique;
    }

    private static byte[]? Interrupt(WireHarness harness, ulong unique) =>
        harness.SendRaw(WireBytes.Request(36, unique | 1, 0, WireBytes.Parse($"8:{unique}")));
}
