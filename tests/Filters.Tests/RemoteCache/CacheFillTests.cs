using ImageMount.Filters.RemoteCache;

namespace ImageMount.Filters.Tests.RemoteCache;

/// <summary>`--prefetch`.</summary>
public sealed class CacheFillTests : CacheTestBase
{
    [Theory]
    [InlineData(1)]
    [InlineData(3_000_001)]
    [InlineData(20 << 20)]
    public async Task Everything_is_there_in_the_end_and_nothing_was_fetched_twice(int size)
    {
        var server = new FakeServer(MakeContent(size));
        await using (Graph graph = await server.OpenAsync(Layer()))
        {
            await ReadAsync(graph.Root, 0, Math.Min(size, 100_000));
            CacheOf(graph).StartFilling();
            await UntilAsync(() => CacheOf(graph).Status.Fill is FillState.Complete or FillState.Stopped);
            RemoteCacheStatus status = CacheOf(graph).Status;
            Assert.Equal((FillState.Complete, (long)size), (status.Fill, status.FillDone));
            Assert.Equal(size, server.Reads.Sum(read => (long)read.Count));
        }

        server.IsAway = true;
        await using Graph alone = await server.OpenAsync(Layer());
        await AssertSameAsync(server.Content, alone);
        Assert.Contains("100 %", Assert.Single(alone.Warnings), StringComparison.Ordinal);
    }

    [Fact]
    public async Task It_keeps_out_of_the_way_of_the_guest()
    {
        var server = new FakeServer(MakeContent(8 << 20));
        var gate = new TaskCompletionSource();
        await using Graph graph = await server.OpenAsync(Layer());
        server.Before = (_, token) => gate.Task.WaitAsync(token);
        Task<byte[]> guest = ReadAsync(graph.Root, 5 << 20, 1000);
        await UntilAsync(() => !server.Reads.IsEmpty);
        CacheOf(graph).StartFilling();
        await UntilAsync(() => CacheOf(graph).Status.Fill == FillState.Running);
        for (int i = 0; i < 1000; i++)
        {
            await Task.Yield();
        }

        Assert.Single(server.Reads);
        gate.SetResult();
        AssertBytes(server.Content, 5 << 20, await guest, "the guest");
        await UntilAsync(() => CacheOf(graph).Status.Fill == FillState.Complete);
    }

    [Fact]
    public async Task It_can_be_ended_at_any_moment()
    {
        var server = new FakeServer(MakeContent(8 << 20)) { Before = (_, token) => Task.Delay(Timeout.Infinite, token) };
        Graph graph = await server.OpenAsync(Layer());
        CacheOf(graph).StartFilling();
        await UntilAsync(() => !server.Reads.IsEmpty);
        graph.StopWaiting(TimeSpan.FromSeconds(1));
        await graph.CloseAsync().AsTask().WaitAsync(Limit);
    }

    [Fact]
    public async Task It_goes_on_when_the_server_is_back()
    {
        var clock = new ManualClock();
        var server = new FakeServer(MakeContent(3 << 20));
        await using Graph graph = await server.OpenAsync(Layer(clock: clock));
        server.IsAway = true;
        CacheOf(graph).StartFilling();
        await UntilAsync(() => CacheOf(graph).Status.Fill == FillState.Waiting);
        Assert.Contains("away", CacheOf(graph).Status.Trouble, StringComparison.Ordinal);
        server.IsAway = false;
        await UntilAsync(() =>
        {
            clock.Advance(60_000);
            return CacheOf(graph).Status.Fill == FillState.Complete;
        });
        Assert.Null(CacheOf(graph).Status.Trouble);
    }

    [Fact]
    public async Task It_stops_when_there_is_no_room()
    {
        var server = new FakeServer(TestPattern.Make(8 << 20, 0, 5));
        await using Graph graph = await server.OpenAsync(Layer(2 << 20));
        CacheOf(graph).StartFilling();
        await UntilAsync(() => CacheOf(graph).Status.Fill == FillState.Stopped);
        Assert.Contains("full", CacheOf(graph).Status.Trouble, StringComparison.Ordinal);
        await AssertSameAsync(server.Content, graph);
    }

    [Theory]
    [InlineData(1, false)]
    [InlineData(64, false)]
    [InlineData(1000, false)]
    [InlineData(77, true)]
    public void Every_step_is_taken_once_and_none_looks_like_reading_on(long steps, bool inOrder)
    {
        long groups = (steps + 63) / 64 * 64;
        long[] order =
        [
            .. Enumerable.Range(0, (int)groups).Select(n => CacheFiller.StepAt(n, steps, inOrder))
                .Where(step => step >= 0),
        ];
        Assert.Equal(Enumerable.Range(0, (int)steps).Select(i => (long)i), order.Order());
        if (!inOrder && steps > 64)
        {
            Assert.All(order.Zip(order.Skip(1)), pair => Assert.True(Math.Abs(pair.First - pair.Second) >= 7));
        }
    }
}
