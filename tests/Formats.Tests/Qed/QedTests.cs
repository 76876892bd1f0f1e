using System.Buffers.Binary;
using ImageMount.Formats.Qed;
using ImageMount.Formats.Tests.TwoLevel;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Qed;

/// <summary>States and damages of QED that no peer makes on demand.</summary>
public sealed class QedTests
{
    private const int Cluster = 4096;
    private const int Size = 8 * Cluster;
    private const ulong NeedCheck = 2;

    [Fact]
    public async Task Zero_clusters_hide_the_parent_and_unallocated_ones_show_it()
    {
        using var dir = new TempDir();
        byte[] parent = TestPattern.Make(Size - 1000, 0, 3);
        QedByHand hand = new QedByHand(Size).SetL2(0, 1).SetL2(2, 0).SetL2(1, 0);
        hand.SetL2(2, hand.Data(1)).Fill(1, 0x77);
        (Graph graph, _) = await hand.OpenAsync(
            TestGraph.ReadOnly, TwoLevelImages.WithParent(dir.Write("parent.raw", parent)));
        await using Graph open = graph;
        var expected = new byte[Size];
        parent.CopyTo(expected, 0);
        expected.AsSpan(0, Cluster).Clear();
        expected.AsSpan(2 * Cluster, Cluster).Fill(0x77);
        byte[] found = await TwoLevelImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(expected, found, 0, "disk");
    }

    [Theory]
    [InlineData(0x7000_0000UL)] // Far outside.
    [InlineData(2049UL)] // Not on a cluster.
    [InlineData(0x8000_0000_0000_0000UL)]
    [InlineData(0xffff_ffff_ffff_f000UL)]
    public async Task Entry_that_leads_nowhere_is_an_error_in_a_closed_image_and_unallocated_in_one_that_was_not(ulong entry)
    {
        QedByHand hand = new QedByHand(Size).SetL2(1, entry).SetL2(2, new QedByHand(Size).Data(0)).Fill(0, 9);
        (Graph graph, _) = await hand.OpenAsync(TestGraph.ReadOnly);
        await using (graph)
        {
            var e = await Assert.ThrowsAsync<BlockException>(
                async () => await graph.Root.ReadAsync(Cluster, new byte[Cluster]));
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
            await graph.Root.ReadAsync(0, new byte[Cluster]);
            Assert.Equal(1, (await TwoLevelImages.CheckAsync(graph.Root)).Corruptions);
        }

        hand.Features = NeedCheck;
        var expected = new byte[Size];
        expected.AsSpan(2 * Cluster, Cluster).Fill(9);
        (graph, _) = await hand.OpenAsync(TestGraph.ReadOnly);
        await using (graph)
        {
            Assert.Contains(graph.Warnings, warning => warning.Contains("was not closed", StringComparison.Ordinal));
            Assert.True((await graph.Root.DescribeAsync()).DirtyFlag);
            byte[] found = await TwoLevelImages.ReadAllAsync(graph.Root);
            TestPattern.AssertEqual(expected, found, 0, "read-only");
            Assert.Equal(NeedCheck, hand.Features);
        }

        (graph, MemoryDevice device) = await hand.OpenAsync(TestGraph.Writable);
        await using (graph)
        {
            byte[] found = await TwoLevelImages.ReadAllAsync(graph.Root);
            TestPattern.AssertEqual(expected, found, 0, "repaired");
            await TwoLevelImages.AssertCleanAsync(graph.Root, "repaired");
            Assert.False((await graph.Root.DescribeAsync()).DirtyFlag);
            Assert.Equal(0UL, BinaryPrimitives.ReadUInt64LittleEndian(device.Content.AsSpan(16)));
        }
    }

    [Theory]
    [InlineData(0x7000_0000UL)]
    [InlineData(2049UL)]
    [InlineData(15 * 4096UL)] // Begins in the file, but does not end in it.
    public async Task L1_entry_that_leads_nowhere_is_treated_alike(ulong entry)
    {
        var hand = new QedByHand(Size) { Features = NeedCheck };
        hand.SetL1(0, entry);
        (Graph graph, _) = await hand.OpenAsync(TestGraph.ReadOnly);
        await using (graph)
        {
            Assert.All(await TwoLevelImages.ReadAllAsync(graph.Root), value => Assert.Equal(0, value));
        }

        (graph, _) = await hand.OpenAsync(TestGraph.Writable);
        await using (graph)
        {
            await graph.Root.WriteAsync(700, new byte[] { 1, 2, 3 });
            await TwoLevelImages.AssertCleanAsync(graph.Root, "repaired and written");
        }
    }

    [Fact]
    public async Task Image_with_a_cluster_used_twice_is_read_but_not_repaired()
    {
        var hand = new QedByHand(Size) { Features = NeedCheck };
        hand.SetL2(0, hand.Data(0)).SetL2(5, hand.Data(0)).Fill(0, 5);
        byte[] before = (byte[])hand.Image.Clone();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await hand.OpenAsync(TestGraph.Writable));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        Assert.Contains("--read-only", e.Describe(), StringComparison.Ordinal);
        Assert.True(before.AsSpan().SequenceEqual(hand.Image));
        (Graph graph, _) = await hand.OpenAsync(TestGraph.ReadOnly);
        await using Graph open = graph;
        var bytes = new byte[Cluster];
        await graph.Root.ReadAsync(5 * Cluster, bytes);
        Assert.All(bytes, value => Assert.Equal(5, value));
    }

    [Fact]
    public async Task Room_that_a_crash_left_is_cut_off_or_used_again()
    {
        var hand = new QedByHand(Size) { Features = NeedCheck };
        hand.SetL2(0, hand.Data(3)).Fill(3, 3).Fill(0, 0xee).Fill(1, 0xee).Fill(2, 0xee).Fill(8, 0xee);
        (Graph graph, MemoryDevice device) = await hand.OpenAsync(TestGraph.Writable);
        await using (graph)
        {
            Assert.Equal((long)hand.Data(4), device.Length);
            await graph.Root.WriteAsync(Cluster + 100, new byte[] { 1 });
            await graph.Root.WriteAsync((3 * Cluster) + 100, new byte[] { 2 });
        }

        Assert.Equal((long)hand.Data(4), device.Length);
        (graph, _) = await TwoLevelImages.OpenAsync("qed", device.Content, TestGraph.ReadOnly);
        await using Graph again = graph;
        var expected = new byte[Size];
        expected.AsSpan(0, Cluster).Fill(3);
        expected[Cluster + 100] = 1;
        expected[(3 * Cluster) + 100] = 2;
        byte[] found = await TwoLevelImages.ReadAllAsync(again.Root);
        TestPattern.AssertEqual(expected, found, 0, "old bytes of used room must not show");
        Assert.Equal(1, (await TwoLevelImages.CheckAsync(again.Root)).Leaks);
    }

    [Fact]
    public async Task Mark_is_set_while_tables_change_and_not_for_writes_in_place()
    {
        var hand = new QedByHand(Size);
        hand.SetL2(0, hand.Data(0));
        (Graph graph, MemoryDevice device) = await hand.OpenAsync(TestGraph.Writable);
        await graph.Root.WriteAsync(512, new byte[1024]);
        await graph.Root.FlushAsync();
        Assert.Equal(0, device.Content[16]);
        await graph.Root.WriteAsync(2 * Cluster, new byte[] { 1 });
        Assert.Equal(NeedCheck, device.Content[16]);
        await graph.Root.FlushAsync();
        Assert.Equal(NeedCheck, device.Content[16]);
        await graph.CloseAsync();
        Assert.Equal(0, device.Content[16]);
    }

    [Fact]
    public async Task Unknown_autoclear_features_are_cleared_by_the_first_change_and_compatible_ones_kept()
    {
        QedByHand hand = new QedByHand(Size).Put64(24, 0xf0f0).Put64(32, 0x8000_0000_0000_0001);
        (Graph graph, MemoryDevice device) = await hand.OpenAsync(TestGraph.Writable);
        await TwoLevelImages.ReadAllAsync(graph.Root);
        Assert.NotEqual(0, device.Content[32]);
        await graph.Root.WriteAsync(0, new byte[] { 1 });
        await graph.CloseAsync();
        Assert.Equal(0xf0f0UL, BinaryPrimitives.ReadUInt64LittleEndian(device.Content.AsSpan(24)));
        Assert.Equal(0UL, BinaryPrimitives.ReadUInt64LittleEndian(device.Content.AsSpan(32)));
    }

    [Theory]
    [InlineData(16, 8UL, BlockErrorKind.NotSupported)]
    [InlineData(16, 1UL << 63, BlockErrorKind.NotSupported)]
    [InlineData(40, 0UL, BlockErrorKind.InvalidData)]
    [InlineData(40, 4097UL, BlockErrorKind.InvalidData)]
    [InlineData(40, 15 * 4096UL, BlockErrorKind.InvalidData)]
    [InlineData(48, 511UL, BlockErrorKind.InvalidData)]
    [InlineData(48, (1UL << 32) + 512, BlockErrorKind.InvalidData)] // 1024 × 1024 clusters of 4 KiB.
    [InlineData(4, 4097UL | 2UL << 32, BlockErrorKind.InvalidData)]
    [InlineData(4, 2048UL | 2UL << 32, BlockErrorKind.InvalidData)]
    [InlineData(4, 4096UL | 3UL << 32, BlockErrorKind.InvalidData)]
    [InlineData(4, 4096UL | 32UL << 32, BlockErrorKind.InvalidData)]
    [InlineData(8, 2UL | 0UL << 32, BlockErrorKind.InvalidData)]
    [InlineData(8, 2UL | 17UL << 32, BlockErrorKind.InvalidData)]
    public async Task Header_that_breaks_the_format_is_refused(int at, ulong value, BlockErrorKind kind)
    {
        QedByHand hand = new QedByHand(Size).Put64(at, value);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await hand.OpenAsync(TestGraph.ReadOnly));
        Assert.Equal(kind, e.Kind);
        Assert.NotNull(e.Offset);
    }

    [Theory]
    [InlineData(4096)] // The L1 table.
    [InlineData(12288)] // The L2 table itself.
    [InlineData(16384)] // Its second cluster.
    public async Task Payload_is_never_written_over_metadata(ulong place)
    {
        QedByHand hand = new QedByHand(Size).SetL2(0, place);
        byte[] before = (byte[])hand.Image.Clone();
        (Graph graph, MemoryDevice device) = await hand.OpenAsync(TestGraph.Writable);
        await using Graph open = graph;
        foreach (Func<ValueTask> change in (Func<ValueTask>[])
        [
            () => graph.Root.WriteAsync(100, new byte[50]), () => graph.Root.ZeroAsync(0, Cluster),
            () => graph.Root.DiscardAsync(0, Cluster),
        ])
        {
            var e = await Assert.ThrowsAsync<BlockException>(async () => await change());
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        }

        Assert.True(before.AsSpan().SequenceEqual(device.Content));
    }

    [Fact]
    public async Task Tables_over_one_another_are_read_but_not_written()
    {
        QedByHand hand = new QedByHand(5 << 20, clusters: 20);
        hand.SetL1(1, hand.L2 + Cluster);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await hand.OpenAsync(TestGraph.Writable));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        (Graph graph, _) = await hand.OpenAsync(TestGraph.ReadOnly);
        await using Graph open = graph;
        await graph.Root.ReadAsync(0, new byte[512]);
        Assert.InRange((await TwoLevelImages.CheckAsync(graph.Root)).Corruptions, 1, 1);
    }

    [Fact]
    public async Task File_that_ends_within_a_cluster_reads_as_zeroes_there_and_can_be_written()
    {
        var hand = new QedByHand(Size, clusters: 6);
        hand.SetL2(3, hand.Data(0)).Fill(0, 4);
        byte[] cut = hand.Image[..((int)hand.Data(0) + 1000)];
        (Graph graph, MemoryDevice device) = await TwoLevelImages.OpenAsync("qed", cut);
        var expected = new byte[Size];
        expected.AsSpan(3 * Cluster, 1000).Fill(4);
        byte[] found = await TwoLevelImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(expected, found, 0, "cut");
        await graph.Root.WriteAsync((3 * Cluster) + 2000, new byte[] { 1, 2 });
        await graph.CloseAsync();
        expected[(3 * Cluster) + 2000] = 1;
        expected[(3 * Cluster) + 2001] = 2;
        (graph, _) = await TwoLevelImages.OpenAsync("qed", device.Content, TestGraph.ReadOnly);
        await using Graph again = graph;
        found = await TwoLevelImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(expected, found, 0, "written");
    }

    [Fact]
    public async Task Growing_shows_zeroes_over_a_longer_parent_and_old_tables()
    {
        using var dir = new TempDir();
        byte[] parent = TestPattern.Make(3 * Size, 0, 5);
        var hand = new QedByHand(Size - 512);
        hand.SetL2(7, hand.Data(0)).Fill(0, 0xaa).SetL2(9, hand.Data(1)).Fill(1, 0xbb).SetL1(1, hand.Data(5));
        OptionMap more = TwoLevelImages.WithParent(dir.Write("parent.raw", parent));
        (Graph graph, MemoryDevice device) = await hand.OpenAsync(TestGraph.Writable, more);
        const int Large = 5 << 20;
        Assert.True(await graph.Root.TryResizeAsync(Large));
        await graph.CloseAsync();
        (graph, _) = await TwoLevelImages.OpenAsync("qed", device.Content, TestGraph.ReadOnly, more);
        await using Graph again = graph;
        var expected = new byte[Large];
        parent.AsSpan(0, Size - 512).CopyTo(expected);
        expected.AsSpan(7 * Cluster, Cluster - 512).Fill(0xaa);
        byte[] found = await TwoLevelImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(expected, found, 0, "grown");
    }

    [Fact]
    public async Task Largest_geometry_costs_no_memory_and_no_space()
    {
        using var dir = new TempDir();
        string path = dir.File("huge.qed");
        await new ImageMaker(TestGraph.Registry).CreateAsync(
            "qed", path, TestGraph.Parser.ParseImageOptions($"size={1L << 60},cluster_size=64M,table_size=16"),
            new CreateRequest());
        long before = GC.GetAllocatedBytesForCurrentThread();
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            Assert.Equal(1L << 60, graph.Root.Length);
            await graph.Root.WriteAsync((1L << 60) - 1000, TestPattern.Make(1000, 0, 1));
            await TwoLevelImages.AssertCleanAsync(graph.Root, "huge");
        }

        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 32 << 20);
        Assert.InRange(long.Parse(Qemu.Succeed("stat", "-c", "%b", path).Trim()) * 512, 0, 1 << 20);
        await using Graph again = await TestGraph.OpenAsync(path);
        var bytes = new byte[2000];
        await again.Root.ReadAsync((1L << 60) - 2000, bytes);
        Assert.Equal(TestPattern.Make(1000, 0, 1), bytes[1000..]);
    }

    [SkippableTheory]
    [InlineData("raw")]
    [InlineData("qcow2")]
    public async Task New_image_names_its_parent_as_qemu_understands_it(string format)
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(1 << 20, 0, 1);
        Qemu.Img("convert", "-f", "raw", "-O", format, dir.Write("content", content), dir.File("parent"));
        string path = dir.File("child.qed");
        var warnings = new List<string>();
        await new ImageMaker(TestGraph.Registry).CreateAsync(
            "qed", path, TestGraph.Parser.ParseImageOptions($"backing_file=parent,backing_fmt={format}"),
            new CreateRequest { Warning = warnings.Add });
        Assert.Equal(format == "raw" ? 0 : 1, warnings.Count);
        string raw = dir.File("by-peer");
        Qemu.Img("convert", "-f", "qed", "-O", "raw", path, raw);
        TestPattern.AssertEqual(content, File.ReadAllBytes(raw), 0, "peer");
        await using Graph graph = await TestGraph.OpenAsync(path);
        byte[] found = await TwoLevelImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(content, found, 0, "we");
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.Equal(("parent", format == "raw" ? "raw" : null), (info.BackingFileName, info.BackingFormat));
    }

    [Theory]
    [InlineData(3000, 4, 1)]
    [InlineData(4096, 3, 1)]
    [InlineData(4096, 2, 1L << 40)]
    public async Task Options_that_contradict_the_format_are_refused(int cluster, int table, long size)
    {
        var e = await Assert.ThrowsAsync<BlockException>(async () => await MemoryCreateContext.MakeAsync(
            "qed", new QedCreateOptions { ClusterSize = cluster, TableSize = table, Size = size }));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
    }
}
