namespace ImageMount.Core.Tests.Block;

public sealed class ErrorTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Innermost_node_and_offset_are_on_the_error(bool asynchronous)
    {
        var device = new MemoryDevice(8192)
        {
            CompletesAsynchronously = asynchronous,
            Before = request => request.Operation is TestOperation.Read or TestOperation.Write
                ? throw new BlockException(BlockErrorKind.IoError, "the disk broke") : default,
        };
        var inner = new BlockNode("inner.img", "memory", device);
        var outer = new BlockNode(
            "outer.qcow2", "raw", new RegionDevice(inner, new FileRegion(4096, 1024, false)));
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await outer.ReadAsync(512, new byte[9]));
        Assert.Equal("inner.img", e.Node);
        Assert.Equal(4096 + 512, e.Offset);
        Assert.Equal("inner.img: the disk broke at 0x1200", e.Describe());
        e = await Assert.ThrowsAsync<BlockException>(async () => await outer.WriteAsync(0, new byte[9]));
        Assert.Equal(4096, e.Offset);
    }

    [Fact]
    public async Task Offset_that_the_driver_gave_stays()
    {
        var device = new MemoryDevice(8192)
        {
            Before = _ => throw BlockException.Invalid("bad table", 0x777, "1", "2"),
        };
        var node = new BlockNode("disk", "memory", device);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await node.ReadAsync(0, new byte[1]));
        Assert.Equal("disk: bad table at 0x777 (found 1, expected 2)", e.Describe());
    }

    [Fact]
    public async Task Range_errors_name_the_node_and_the_limit()
    {
        var node = new BlockNode("disk", "memory", new MemoryDevice(1000));
        foreach ((long offset, int count) in ((long, int)[])
            [(1000, 1), (999, 2), (-1, 1), (long.MaxValue, 1), (long.MaxValue, int.MaxValue / 1024)])
        {
            BlockException e = await Assert.ThrowsAsync<BlockException>(
                async () => await node.ReadAsync(offset, new byte[count]));
            Assert.Equal((BlockErrorKind.OutOfRange, "disk"), (e.Kind, e.Node));
            Assert.Contains("0x3e8", e.Describe(), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Description_gives_everything_that_is_known()
    {
        var e = new BlockException(BlockErrorKind.NotSupported, "feature x") { Found = "3", Hint = "Do that." };
        Assert.Equal("feature x (found 3). Do that.", e.Describe());
    }
}
