namespace ImageMount.Core.Tests.Block;

public sealed class InFlightTests
{
    [Fact]
    public async Task Drain_of_an_idle_counter_completes()
    {
        var inFlight = new InFlight();
        await inFlight.DrainAsync();
        inFlight.Exit(inFlight.Enter());
        await inFlight.DrainAsync();
    }

    [Fact]
    public async Task Drain_waits_for_what_began_before_and_not_for_what_began_after()
    {
        var inFlight = new InFlight();
        int before = inFlight.Enter();
        Task drain = inFlight.DrainAsync().AsTask();
        Assert.False(drain.IsCompleted);
        int after = inFlight.Enter();
        Assert.False(drain.IsCompleted);
        inFlight.Exit(before);
        await drain;
        Task second = inFlight.DrainAsync().AsTask();
        Assert.False(second.IsCompleted);
        inFlight.Exit(after);
        await second;
    }

    [Fact]
    public async Task Drains_under_load_never_miss_an_operation()
    {
        const int Workers = 2;
        const int Operations = 20_000;
        var inFlight = new InFlight();
        long clock = 0;
        var startedAt = new long[Workers * 16]; // Apart, so that the workers do not slow each other down.
        Task workers = Task.WhenAll(Enumerable.Range(0, Workers).Select(worker => Task.Run(() =>
        {
            for (int i = 0; i < Operations; i++)
            {
                int slot = inFlight.Enter();
                Interlocked.Exchange(ref startedAt[worker * 16], Interlocked.Increment(ref clock));
                Thread.SpinWait(i % 20);
                Interlocked.Exchange(ref startedAt[worker * 16], 0);
                inFlight.Exit(slot);
            }
        })));
        int drains = 0;
        while (!workers.IsCompleted)
        {
            long called = Interlocked.Increment(ref clock);
            await inFlight.DrainAsync();
            drains++;
            for (int worker = 0; worker < Workers; worker++)
            {
                long started = Interlocked.Read(ref startedAt[worker * 16]);
                Assert.True(
                    started == 0 || started > called,
                    $"drain {drains} completed while worker {worker}'s operation of {started} (< {called}) ran on");
            }

            await Task.Yield();
        }

        await workers;
        await inFlight.DrainAsync();
    }

    [Fact]
    public async Task Close_waits_for_requests_under_way()
    {
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var device = new MemoryDevice(4096)
        {
            Before = request => request.Operation == TestOperation.Read ? new ValueTask(release.Task) : default,
        };
        var node = new BlockNode("disk", "memory", device);
        Task read = node.ReadAsync(0, new byte[512]).AsTask();
        Task close = node.CloseAsync().AsTask();
        Assert.Equal(0, device.Closes);
        Assert.False(close.IsCompleted);
        release.SetResult();
        await read;
        await close;
        Assert.Equal(1, device.Closes);
        await node.CloseAsync();
        Assert.Equal(1, device.Closes);
    }

    [Fact]
    public async Task Failed_requests_leave_nothing_in_flight()
    {
        bool asynchronous = false;
        var device = new MemoryDevice(4096)
        {
            Declared = BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard
                | BlockCapabilities.Resize,
            Before = async request =>
            {
                if (asynchronous)
                {
                    await Task.Yield();
                }

                throw new BlockException(BlockErrorKind.IoError, "broken");
            },
        };
        var node = new BlockNode("disk", "memory", device);
        for (int round = 0; round < 2; round++, asynchronous = true)
        {
            foreach (Func<ValueTask> request in (Func<ValueTask>[])
            [
                () => node.ReadAsync(0, new byte[1]),
                () => node.WriteAsync(0, new byte[1]),
                () => node.ZeroAsync(0, 1),
                () => node.DiscardAsync(0, 1),
                () => node.FlushAsync(),
                async () => await node.TryResizeAsync(1),
            ])
            {
                await Assert.ThrowsAsync<BlockException>(async () => await request());
            }
        }

        await node.DrainAsync();
    }
}
