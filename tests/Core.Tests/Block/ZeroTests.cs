namespace ImageMount.Core.Tests.Block;

public sealed class ZeroTests
{
    [Fact]
    public async Task Zeroing_is_native_inside_and_written_at_the_edges()
    {
        var device = Make(512, 0);
        await new BlockNode("disk", "memory", device).ZeroAsync(100, 3000);
        Assert.Equal(
            new TestRequest(TestOperation.Zero, 512, 3072 - 512, WriteFlags.None),
            device.Log.Single(request => request.Operation == TestOperation.Zero));
        AssertZeroed(device, 100, 3000);
    }

    [Fact]
    public async Task Zeroing_is_split_at_the_limit()
    {
        var device = Make(512, 1024);
        await new BlockNode("disk", "memory", device).ZeroAsync(0, 4096);
        Assert.Equal(4, device.Count(TestOperation.Zero));
        AssertZeroed(device, 0, 4096);
    }

    [Fact]
    public async Task Zeroing_writes_where_the_device_cannot()
    {
        var device = new MemoryDevice(TestPattern.Make(3 << 20, 0, 1)) { Declared = BlockCapabilities.Write };
        await new BlockNode("disk", "memory", device).ZeroAsync(5, (3 << 20) - 10);
        Assert.Equal(0, device.Count(TestOperation.Zero));
        AssertZeroed(device, 5, (3 << 20) - 10);
    }

    [Fact]
    public async Task Zeroing_nothing_asks_nobody()
    {
        var device = Make(512, 0);
        await new BlockNode("disk", "memory", device).ZeroAsync(512, 0);
        Assert.Empty(device.Log);
    }

    [Fact]
    public async Task Zeroing_to_an_odd_end_is_native()
    {
        var device = new MemoryDevice(TestPattern.Make(5000, 0, 1))
        {
            Declared = BlockCapabilities.Write | BlockCapabilities.Zero,
            DeclaredLimits = BlockLimits.Default with { RequestAlignment = 4096 },
        };
        await new BlockNode("disk", "memory", device).ZeroAsync(4096, 5000 - 4096);
        Assert.Equal([new TestRequest(TestOperation.Zero, 4096, 904, WriteFlags.None)], device.Log);
    }

    private static MemoryDevice Make(int alignment, long maxZero) => new(TestPattern.Make(8192, 0, 1))
    {
        Declared = BlockCapabilities.Write | BlockCapabilities.Zero,
        DeclaredLimits = BlockLimits.Default with { RequestAlignment = alignment, MaxZero = maxZero },
    };

    private static void AssertZeroed(MemoryDevice device, int at, int count)
    {
        byte[] expected = TestPattern.Make(device.Content.Length, 0, 1);
        expected.AsSpan(at, count).Clear();
        TestPattern.AssertEqual(expected, device.Content, 0, "after zeroing");
    }
}
