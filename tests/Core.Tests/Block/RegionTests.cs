namespace ImageMount.Core.Tests.Block;

public sealed class RegionTests
{
    [Theory]
    [InlineData(0, null, 1000, true)]
    [InlineData(0, 1000L, 1000, false)]
    [InlineData(10, null, 990, false)]
    [InlineData(1000, null, 0, false)]
    [InlineData(10, 0L, 0, false)]
    public void Region_follows_from_offset_and_size(long offset, long? size, long length, bool isWhole)
    {
        FileRegion region = FileRegion.Choose(1000, offset, size);
        Assert.Equal(new FileRegion(offset, length, isWhole), region);
    }

    [Theory]
    [InlineData(1001, null)]
    [InlineData(-1, null)]
    [InlineData(0, 1001L)]
    [InlineData(1, 1000L)]
    [InlineData(long.MaxValue, long.MaxValue)]
    [InlineData(500, -1L)]
    public void Region_outside_the_file_is_refused(long offset, long? size)
    {
        BlockException e = Assert.Throws<BlockException>(() => FileRegion.Choose(1000, offset, size));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
    }

    [Fact]
    public async Task Only_a_whole_region_resizes()
    {
        var node = new BlockNode("disk", "memory", new MemoryDevice(1000));
        var whole = new BlockNode("whole", "raw", new RegionDevice(node, FileRegion.Choose(1000, 0, null)));
        var part = new BlockNode("part", "raw", new RegionDevice(node, FileRegion.Choose(1000, 0, 1000)));
        Assert.True(await whole.TryResizeAsync(2000));
        Assert.Equal(2000, whole.Length);
        Assert.False(await part.TryResizeAsync(2000));
        Assert.Equal(1000, part.Length);
    }

    [Fact]
    public async Task Map_names_the_place_in_the_file()
    {
        var device = new MemoryDevice(TestPattern.Make(1000, 0, 1)) { Declared = BlockCapabilities.Map };
        var node = new BlockNode("disk", "memory", device);
        var part = new BlockNode("part", "raw", new RegionDevice(node, FileRegion.Choose(1000, 100, null)));
        BlockExtent extent = await part.MapAsync(5, 1);
        Assert.Equal((105L, node), (extent.HostOffset, extent.HostNode));
    }
}
