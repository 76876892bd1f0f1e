using ImageMount.Filters.Delay;

namespace ImageMount.Filters.Tests;

public sealed class DelayTests
{
    private readonly ManualClock _clock = new();
    private readonly MemoryDevice _device = new(TestPattern.Make(8192, 0, 1))
    {
        Declared = BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard,
    };

    [Fact]
    public async Task Request_passes_when_its_time_has_come_and_not_before()
    {
        BlockNode node = Make(new DelayOptions { Read = 50, Write = 20 });
        var buffer = new byte[100];
        Task read = node.ReadAsync(0, buffer).AsTask();
        Task write = node.WriteAsync(0, new byte[10]).AsTask();
        _clock.Advance(19);
        Assert.Empty(_device.Log);
        _clock.Advance(1);
        await write;
        Assert.False(read.IsCompleted);
        _clock.Advance(30);
        await read;
        Assert.Equal([TestOperation.Write, TestOperation.Read], _device.Log.Select(request => request.Operation));
    }

    [Fact]
    public async Task Zeroing_discards_and_flushes_are_delayed_too()
    {
        BlockNode node = Make(new DelayOptions { Write = 5, Flush = 7 });
        Task[] requests =
            [node.ZeroAsync(0, 512).AsTask(), node.DiscardAsync(0, 512).AsTask(), node.FlushAsync().AsTask()];
        Assert.Empty(_device.Log);
        _clock.Advance(7);
        await Task.WhenAll(requests);
        Assert.Equal(3, _device.Log.Count);
    }

    [Fact]
    public void Without_delay_nothing_suspends()
    {
        BlockNode node = Make(new DelayOptions());
        Assert.True(node.ReadAsync(0, new byte[10]).IsCompletedSuccessfully);
        Assert.True(node.WriteAsync(0, new byte[10]).IsCompletedSuccessfully);
    }

    [Fact]
    public async Task Cancelled_request_never_reaches_the_disk()
    {
        BlockNode node = Make(new DelayOptions { Write = 10 });
        using var cancel = new CancellationTokenSource();
        Task write = node.WriteAsync(0, new byte[10], WriteFlags.None, cancel.Token).AsTask();
        await cancel.CancelAsync();
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => write);
        Assert.Equal(BlockErrorKind.Cancelled, e.Kind);
        _clock.Advance(100);
        Assert.Empty(_device.Log);
    }

    [Fact]
    public async Task Close_waits_for_delayed_requests()
    {
        BlockNode node = Make(new DelayOptions { Write = 10 });
        Task write = node.WriteAsync(0, new byte[10]).AsTask();
        Task close = node.CloseAsync().AsTask();
        Assert.False(close.IsCompleted);
        _clock.Advance(10);
        await write;
        await close;
        Assert.Equal(1, _device.Count(TestOperation.Write));
    }

    private BlockNode Make(DelayOptions options) => new(
        "slow", "delay", new DelayDevice(new BlockNode("mem", "memory", _device), options, _clock));
}
