using ImageMount.Formats.Tests.BlockTables;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Parallels;

/// <summary>Parallels images that no program at hand makes: scattered, odd clusters, unclean, with an extension.</summary>
public sealed class ParallelsTests
{
    private const int Cluster = 63 * 512;
    private const int Size = (7 * Cluster) + 1024;

    private static readonly int[] s_order = [6, 0, 3, 4, 7, 1];

    [Theory]
    [InlineData(false, 0u)]
    [InlineData(false, 0xdeadbeefu)]
    [InlineData(true, 0u)]
    public async Task Scattered_clusters_read_right(bool isVersion2, uint sizeHigh)
    {
        byte[] content = Content();
        byte[] image = new ParallelsByHand
        {
            Size = Size,
            IsVersion2 = isVersion2,
            Order = s_order,
            SizeHigh = sizeHigh,
        }.Build(content);
        await using Graph graph = await OpenAsync(image);
        await FlatTableImages.AssertContentAsync(graph.Root, content, "all");
        await FlatTableImages.AssertCleanAsync(graph, "as made");
    }

    [Fact]
    public async Task Extension_is_shown_and_dropped_by_the_first_change()
    {
        byte[] content = Content();
        byte[] image = new ParallelsByHand
        {
            Size = Size,
            IsVersion2 = true,
            Order = s_order,
            HasExtension = true,
            InUse = 0x312e_3276,
        }.Build(content);
        await using (Graph graph = await OpenAsync(image))
        {
            Assert.Contains((await graph.Root.DescribeAsync()).FormatSpecific, fact => fact.Key == "dirty-bitmaps");
            await FlatTableImages.AssertCleanAsync(graph, "with extension");
        }

        var device = new MemoryDevice(image);
        await using (Graph graph = await TestGraph.Opener.OpenOverAsync(
            "parallels", new BlockNode("image", "test", device), TestGraph.Writable))
        {
            Assert.NotEmpty(graph.Warnings);
            Assert.NotEqual(0, BitConverter.ToInt64(device.Content, 56));
            content[2 * Cluster] = 5;
            await graph.Root.WriteAsync(2 * Cluster, new byte[] { 5 });
            Assert.Equal(0x746f_6e59u, BitConverter.ToUInt32(device.Content, 44));
            Assert.Equal(0, BitConverter.ToInt64(device.Content, 56));
        }

        Assert.Equal(0x312e_3276u, BitConverter.ToUInt32(device.Content, 44));
        await using Graph again = await OpenAsync(device.Content);
        await FlatTableImages.AssertContentAsync(again.Root, content, "again");
    }

    [Theory]
    [InlineData(1ul, true)]
    [InlineData(0ul, false)]
    [InlineData(2ul, false)]
    public async Task Unknown_feature_is_refused_only_where_it_says_so(ulong flags, bool isRefused)
    {
        byte[] image = new ParallelsByHand
        {
            Size = Size,
            IsVersion2 = true,
            HasExtension = true,
            UnknownFeature = 0x1122_3344,
            UnknownFlags = flags,
        }.Build();
        if (isRefused)
        {
            var e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image));
            Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
            return;
        }

        await using Graph graph = await OpenAsync(image);
        Assert.Empty(graph.Warnings);
    }

    [Fact]
    public async Task Damaged_extension_is_warned_of()
    {
        byte[] image = new ParallelsByHand { Size = Size, IsVersion2 = true, HasExtension = true }.Build();
        image[^(Cluster + 5)] ^= 1;
        await using Graph graph = await OpenAsync(image);
        Assert.Single(graph.Warnings);
    }

    [Fact]
    public async Task Image_that_was_not_closed_is_shown_as_dirty_and_is_clean_after_writing()
    {
        byte[] content = Content();
        var device = new MemoryDevice(
            new ParallelsByHand { Size = Size, Order = s_order, InUse = 0x746f_6e59 }.Build(content));
        await using (Graph graph = await TestGraph.Opener.OpenOverAsync(
            "parallels", new BlockNode("image", "test", device), TestGraph.Writable))
        {
            Assert.True((await graph.Root.DescribeAsync()).DirtyFlag);
            await graph.Root.WriteAsync(0, content.AsMemory(0, 10));
        }

        await using Graph again = await OpenAsync(device.Content);
        Assert.False((await again.Root.DescribeAsync()).DirtyFlag);
        await FlatTableImages.AssertContentAsync(again.Root, content, "again");
    }

    [Fact]
    public async Task Clusters_that_share_a_place_are_reported_and_never_written()
    {
        byte[] image = new ParallelsByHand { Size = Size, Order = s_order }.Build(Content());
        image.AsSpan(64 + (4 * 3), 4).CopyTo(image.AsSpan(64 + (4 * 2)));
        await using (Graph graph = await OpenAsync(image))
        {
            Assert.Equal(1, (await ((ICheckable)graph.Image.Device).CheckAsync(default)).Corruptions);
        }

        await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image, TestGraph.Writable));
    }

    private static byte[] Content()
    {
        byte[] content = TestPattern.Make(Size, 0, 7);
        foreach (int cluster in Enumerable.Range(0, 8).Except(s_order))
        {
            content.AsSpan(cluster * Cluster, Cluster).Clear();
        }

        return content;
    }

    private static async ValueTask<Graph> OpenAsync(byte[] image, OpenFlags? flags = null) =>
        (await FlatTableImages.OpenAsync("parallels", image, flags ?? TestGraph.ReadOnly)).Graph;
}
