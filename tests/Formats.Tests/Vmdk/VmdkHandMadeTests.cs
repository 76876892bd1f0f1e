using System.Text;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>Layouts that qemu-img never makes: ZERO extents, streams with a footer, other geometries, damage.</summary>
public sealed class VmdkHandMadeTests
{
    [SkippableFact]
    public async Task Zero_extent_in_the_middle_keeps_its_place()
    {
        using var dir = new TempDir();
        byte[] first = TestPattern.Make(1 << 20, 0, 1);
        byte[] last = TestPattern.Make(300 * 512, 0, 2);
        byte[] sparse = VmdkImages.Content(2 << 20, 3);
        dir.Write("first.bin", [.. new byte[512], .. first]);
        dir.Write("last.bin", last);
        dir.Write("sparse.vmdk", new VmdkByHand { Capacity = 2 << 20, Content = sparse, Descriptor = "" }.Build());
        string path = dir.Write("disk.vmdk", Encoding.ASCII.GetBytes(VmdkByHand.MakeDescriptor(
            "custom", "RW 2048 FLAT \"first.bin\" 1", "RW 1000 ZERO", "RW 4096 SPARSE \"sparse.vmdk\"", "RW 24 ZERO",
            "RDONLY 300 FLAT \"last.bin\" 0")));
        byte[] content = [.. first, .. new byte[1000 * 512], .. sparse, .. new byte[24 * 512], .. last];
        await using Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable);
        await VmdkImages.AssertReadsAsync(graph.Root, content, "custom");
        Assert.Equal(["file", "extents.0", "extents.1", "extents.2"],
            graph.Root.Children.Select(child => child.Role));

        // Writing where there is a place; a clear refusal where there is none.
        await graph.Root.WriteAsync((1 << 20) - 100, new byte[100]);
        content.AsSpan((1 << 20) - 100, 100).Clear();
        foreach (int at in new[] { 1 << 20, content.Length - 100 })
        {
            var e = await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.WriteAsync(at, new byte[1]));
            Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
        }

        await graph.Root.ZeroAsync(1 << 20, 1000 * 512);
        await VmdkImages.AssertReadsAsync(graph.Root, content, "custom, written");
        await VmdkImages.AssertCleanAsync(graph);
    }

    [SkippableTheory]
    [InlineData(64 << 10, 512, 1u)]
    [InlineData(4 << 10, 128, 2u)]
    [InlineData(32 << 10, 64, 1u)]
    [InlineData(1 << 20, 4096, 3u)]
    [InlineData(8 << 10, 1, 1u)]
    public async Task Other_geometries_read_as_written(int grain, int perTable, uint version)
    {
        const int Capacity = (5 << 20) + (7 * 512);
        byte[] content = VmdkImages.Content(Capacity, grain);
        var hand = new VmdkByHand
        {
            Capacity = Capacity,
            GrainSize = grain,
            EntriesPerTable = perTable,
            Version = version,
            Content = content,
        };
        await using Graph graph = await OpenAsync(hand.Build());
        await VmdkImages.AssertReadsAsync(graph.Root, content, $"grain {grain}");
        await VmdkImages.AssertCleanAsync(graph);
    }

    [SkippableTheory]
    [InlineData(64 << 10, (9 << 20) + (5 * 512))]
    [InlineData(64 << 10, 80 << 20)]
    [InlineData(8 << 10, 9 << 20)]
    public async Task Stream_with_its_directory_behind_the_footer_reads_here_and_in_qemu(int grain, int capacity)
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(capacity, 4);
        content.AsSpan(capacity / 3, capacity / 2).Clear();
        var hand = new VmdkByHand { Capacity = capacity, GrainSize = grain, Content = content, Version = 3 };
        string path = dir.Write("disk.vmdk", hand.BuildStream());
        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)), "qemu-img reads it otherwise");
        await using Graph graph = await TestGraph.OpenAsync(path);
        await VmdkImages.AssertReadsAsync(graph.Root, content, "stream");
        await VmdkImages.AssertCleanAsync(graph);
    }

    [SkippableFact]
    public async Task Stream_whose_table_points_to_another_grain_is_refused_there()
    {
        byte[] content = TestPattern.Make(1 << 20, 0, 5);
        var hand = new VmdkByHand { Content = content, Version = 3 };
        byte[] image = hand.BuildStream();

        // The first table stands one marker before the directory's marker; swap its first two entries.
        int table = (int)BitConverter.ToUInt32(image, hand.DirectoryOffset) * 512;
        byte[] first = image[table..(table + 4)];
        image.AsSpan(table + 4, 4).CopyTo(image.AsSpan(table));
        first.CopyTo(image, table + 4);
        await using Graph graph = await OpenAsync(image);
        var e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.ReadAsync(0, new byte[100]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        Assert.Contains("marker", e.Describe(), StringComparison.Ordinal);
        await graph.Root.ReadAsync(2 * VmdkImages.Grain, new byte[100]);
        Assert.InRange((await VmdkImages.CheckAsync(graph)).Corruptions, 2, 2);
    }

    [SkippableFact]
    public async Task Missing_grain_tables_read_as_zeroes_and_are_made_by_writing()
    {
        using var dir = new TempDir();
        var hand = new VmdkByHand { Capacity = 40 << 20, TablesMissing = true };
        string path = dir.Write("disk.vmdk", hand.Build());
        byte[] content = new byte[40 << 20];
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            BlockExtent all = await graph.Root.MapAsync(0, content.Length);
            Assert.True(all.IsZero);
            Assert.Equal(content.Length, all.Length);
            byte[] bytes = TestPattern.Make(100_000, 0, 6);
            await graph.Root.WriteAsync(33 << 20, bytes);
            bytes.CopyTo(content, 33 << 20);
            await VmdkImages.AssertReadsAsync(graph.Root, content, "before closing");
        }

        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)));
        await using Graph again = await TestGraph.OpenAsync(path);
        await VmdkImages.AssertCleanAsync(again);
    }

    [SkippableTheory]
    [InlineData(0x00ff_ffffu)]
    [InlineData(0u)]
    public async Task Damaged_directory_entry_is_replaced_by_the_redundant_one_and_nothing_is_written(uint entry)
    {
        byte[] content = VmdkImages.Content(1 << 20, 7);
        var hand = new VmdkByHand { Content = content };
        byte[] image = hand.Build();
        VmdkByHand.Put32(image, hand.DirectoryOffset, entry);
        await using (Graph graph = await OpenAsync(image))
        {
            Assert.Contains(graph.Warnings, warning => warning.Contains("redundant", StringComparison.Ordinal));
            await VmdkImages.AssertReadsAsync(graph.Root, content, "by the redundant directory");
            Assert.InRange((await VmdkImages.CheckAsync(graph)).Corruptions, 1, 1);
        }

        var e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image, TestGraph.Writable));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
    }

    [SkippableFact]
    public async Task Check_finds_shared_grains_grains_outside_and_tables_that_differ()
    {
        byte[] content = TestPattern.Make(1 << 20, 0, 8);
        var hand = new VmdkByHand { Content = content };
        byte[] image = hand.Build();
        uint second = BitConverter.ToUInt32(image, hand.TableOffset + 4);
        VmdkByHand.Put32(image, hand.TableOffset, second);
        VmdkByHand.Put32(image, hand.TableOffset + 8, 0x7000_0000);
        VmdkByHand.Put32(image, hand.TableOffset + 12, 21);
        await using Graph graph = await OpenAsync(image);
        CheckReport report = await VmdkImages.CheckAsync(graph);
        string problems = string.Join('\n', report.Problems);
        Assert.Contains("used twice", problems, StringComparison.Ordinal);
        Assert.Contains("outside the file", problems, StringComparison.Ordinal);
        Assert.Contains("over the metadata", problems, StringComparison.Ordinal);
        Assert.Contains("redundant copy of grain table 0 differs in 3 entries", problems, StringComparison.Ordinal);
        Assert.Equal(4, report.Corruptions);
        var e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.ReadAsync(3 * VmdkImages.Grain, new byte[1]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
    }

    [SkippableFact]
    public async Task Grain_over_the_metadata_is_not_written()
    {
        var hand = new VmdkByHand { Content = TestPattern.Make(1 << 20, 0, 9) };
        byte[] image = hand.Build();
        VmdkByHand.Put32(image, hand.TableOffset, (uint)(hand.DirectoryOffset / 512));
        await using Graph graph = await OpenAsync(image, TestGraph.Writable);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.WriteAsync(0, new byte[1]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
    }

    [SkippableFact]
    public async Task Parts_of_one_flat_file_are_one_child()
    {
        using var dir = new TempDir();
        byte[] file = TestPattern.Make(1 << 20, 0, 10);
        dir.Write("whole.bin", file);
        string path = dir.Write("disk.vmdk", Encoding.ASCII.GetBytes(VmdkByHand.MakeDescriptor(
            "custom", "RW 100 FLAT \"whole.bin\" 1000", "NOACCESS 8 FLAT \"whole.bin\" 0", "RW 50 VMFS \"whole.bin\" 0")));
        await using Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable);
        Assert.Equal(2, graph.Root.Children.Count);
        var buffer = new byte[100 * 512];
        await graph.Root.ReadAsync(0, buffer);
        Assert.Equal(file[(1000 * 512)..(1100 * 512)], buffer);
        await graph.Root.ReadAsync(108 * 512, buffer.AsMemory(0, 512));
        Assert.Equal(file[..512], buffer[..512]);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.ReadAsync(100 * 512, buffer.AsMemory(0, 512)));
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
    }

    [SkippableFact]
    public async Task Descriptor_in_another_encoding_names_its_files()
    {
        using var dir = new TempDir();
        dir.Write("día.bin", TestPattern.Make(512, 0, 11));
        string text = VmdkByHand.MakeDescriptor("monolithicFlat", "RW 1 FLAT \"día.bin\" 0")
            .Replace("version=1", "version=1\nencoding=\"windows-1252\"", StringComparison.Ordinal);
        string path = dir.Write("disk.vmdk", Encoding.Latin1.GetBytes(text));
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal(512, graph.Root.Length);
    }

    [SkippableFact]
    public async Task Missing_or_changed_parent_is_an_error_that_the_user_can_override()
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(1 << 20, 12);
        string parent = VmdkImages.Convert(dir, "parent", content, "subformat=monolithicSparse");
        string child = dir.File("child.vmdk");
        Qemu.Img("create", "-q", "-f", "vmdk", "-o", "backing_fmt=vmdk", "-b", parent, child);
        await using (Graph graph = await TestGraph.OpenAsync(child))
        {
            await VmdkImages.AssertReadsAsync(graph.Root, content, "child");
        }

        await using (Graph graph = await TestGraph.OpenAsync(parent, TestGraph.Writable))
        {
            await graph.Root.WriteAsync(0, new byte[] { 1 });
        }

        var changed = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(child));
        Assert.Equal(BlockErrorKind.InvalidData, changed.Kind);
        Assert.Contains("backing.file.filename", changed.Describe(), StringComparison.Ordinal);
        content[0] = 1;
        await using (Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=vmdk,file.filename={child},backing.file.filename={parent}"))
        {
            await VmdkImages.AssertReadsAsync(graph.Root, content, "child with its parent by hand");
            Assert.Contains(graph.Warnings, warning => warning.Contains("CID", StringComparison.Ordinal));
        }

        File.Delete(parent);
        var missing = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(child));
        Assert.Equal(BlockErrorKind.NotFound, missing.Kind);
        await using Graph alone = await TestGraph.OpenOptionsAsync($"driver=vmdk,file.filename={child},backing=");
        await VmdkImages.AssertReadsAsync(alone.Root, new byte[1 << 20], "child without its parent");
    }

    [SkippableFact]
    public async Task Unclean_extent_gets_its_redundant_tables_repaired_by_the_first_write()
    {
        byte[] content = VmdkImages.Content(1 << 20, 13);
        var hand = new VmdkByHand { Content = content };
        byte[] image = hand.Build();
        image[72] = 1;
        VmdkByHand.Put32(image, hand.RedundantOffset + 512, 0); // First entry of the redundant table.
        var device = new MemoryDevice(image);
        var node = new BlockNode("image", "test", device);
        await using (Graph graph = await TestGraph.Opener.OpenOverAsync("vmdk", node, TestGraph.Writable))
        {
            Assert.True((await graph.Root.DescribeAsync()).DirtyFlag);
            await graph.Root.WriteAsync(5, content.AsMemory(5, 1));
        }

        Assert.Equal(0, device.Content[72]);
        await using Graph again = await TestGraph.Opener.OpenOverAsync("vmdk", node, TestGraph.ReadOnly);
        await VmdkImages.AssertReadsAsync(again.Root, content, "repaired");
        await VmdkImages.AssertCleanAsync(again);
    }

    private static ValueTask<Graph> OpenAsync(byte[] image, OpenFlags? flags = null) =>
        TestGraph.Opener.OpenOverAsync(
            "vmdk", new BlockNode("image", "test", new MemoryDevice(image)), flags ?? TestGraph.ReadOnly);
}
