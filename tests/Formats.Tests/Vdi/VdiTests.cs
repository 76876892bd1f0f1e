using ImageMount.Formats.Tests.BlockTables;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vdi;

/// <summary>VDIs that no program at hand makes: scattered, discarded, differencing, old, damaged.</summary>
public sealed class VdiTests
{
    private const int Block = 8 << 10;
    private const int Size = (9 * Block) + 1024;

    private static readonly uint[] s_scattered = [5, 0, VdiByHand.Free, 3, 4, VdiByHand.Zero, 7, 6, 1, 2];

    [Fact]
    public async Task Scattered_blocks_read_right_in_one_request_and_in_many()
    {
        byte[] content = Content();
        await using Graph graph = await OpenAsync(new VdiByHand { Size = Size, Places = s_scattered }.Build(content));
        await FlatTableImages.AssertContentAsync(graph.Root, content, "in one");
        var random = new Random(4);
        for (int i = 0; i < 300; i++)
        {
            int count = random.Next(1, Size);
            int at = random.Next(0, Size - count + 1);
            var part = new byte[count];
            await graph.Root.ReadAsync(at, part);
            TestPattern.AssertEqual(content.AsSpan(at, count), part, at, $"read {i}");
        }
    }

    [Theory]
    [InlineData(0x0001_0001u, 384u)]
    [InlineData(0x0001_0001u, 400u)]
    [InlineData(0x0000_0001u, 0u)]
    public async Task Old_headers_are_understood(uint version, uint headerSize)
    {
        byte[] content = Content();
        byte[] image = new VdiByHand
        {
            Size = Size,
            Version = version,
            HeaderSize = headerSize,
            Places = s_scattered,
        }.Build(content);
        await using Graph graph = await OpenAsync(image);
        await FlatTableImages.AssertContentAsync(graph.Root, content, $"version {version:x}");
    }

    [Fact]
    public async Task Version_0_1_is_not_written_and_says_so()
    {
        byte[] image = new VdiByHand { Size = Size, Version = 1 }.Build();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image, TestGraph.Writable));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
    }

    [Fact]
    public async Task Free_places_are_filled_before_the_file_grows_and_the_counter_is_set_right()
    {
        byte[] content = Content();
        uint[] places = [9, VdiByHand.Free, VdiByHand.Free, 0, VdiByHand.Free, 4, 3, VdiByHand.Free, 8, VdiByHand.Free];
        foreach (int hole in new[] { 1, 2, 4, 7, 9 })
        {
            content.AsSpan(hole * Block, Math.Min(Block, Size - (hole * Block))).Clear();
        }

        var device = new MemoryDevice(new VdiByHand { Size = Size, Places = places, Count = 5 }.Build(content));
        long length = device.Length;
        await using (Graph graph = await TestGraph.Opener.OpenOverAsync(
            "vdi", new BlockNode("image", "test", device), TestGraph.Writable))
        {
            foreach (int hole in new[] { 7, 1, 4, 2, 9 })
            {
                TestPattern.Fill(content.AsSpan((hole * Block) + 100, 300), hole, hole);
                await graph.Root.WriteAsync((hole * Block) + 100, content.AsMemory((hole * Block) + 100, 300));
            }

            await FlatTableImages.AssertContentAsync(graph.Root, content, "written");
        }

        Assert.Equal(length, device.Length);
        Assert.Equal(10u, BitConverter.ToUInt32(device.Content, 0x184));
        await using Graph again = await OpenAsync(device.Content);
        await FlatTableImages.AssertContentAsync(again.Root, content, "again");
        await FlatTableImages.AssertCleanAsync(again, "after filling");
    }

    [Fact]
    public async Task Counter_that_would_make_others_overwrite_a_block_is_found_and_repaired()
    {
        byte[] image = new VdiByHand { Size = Size, Places = s_scattered, Count = 3 }.Build(Content());
        await using (Graph graph = await OpenAsync(image))
        {
            CheckReport report = await ((ICheckable)graph.Image.Device).CheckAsync(default);
            Assert.Equal(1, report.Corruptions);
        }

        var device = new MemoryDevice(image);
        await using (Graph graph = await TestGraph.Opener.OpenOverAsync(
            "vdi", new BlockNode("image", "test", device), TestGraph.Writable))
        {
            Assert.NotEmpty(graph.Warnings);
            await graph.Root.WriteAsync(0, new byte[10]);
        }

        await using Graph after = await OpenAsync(device.Content);
        await FlatTableImages.AssertCleanAsync(after, "after a write");
    }

    [Fact]
    public async Task Blocks_that_share_a_place_are_reported_and_never_written()
    {
        uint[] places = [.. s_scattered];
        places[2] = 4;
        byte[] image = new VdiByHand { Size = Size, Places = places }.Build(Content());
        await using (Graph graph = await OpenAsync(image))
        {
            CheckReport report = await ((ICheckable)graph.Image.Device).CheckAsync(default);
            Assert.Equal(1, report.Corruptions);
        }

        var e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image, TestGraph.Writable));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
    }

    [Fact]
    public async Task Block_outside_the_file_is_an_error_and_not_zeroes()
    {
        uint[] places = [.. s_scattered];
        places[2] = 100;
        byte[] image = new VdiByHand { Size = Size, Places = s_scattered }.Build(Content());
        BitConverter.TryWriteBytes(image.AsSpan(512 + 8), 100u);
        await using Graph graph = await OpenAsync(image);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.ReadAsync(2 * Block, new byte[512]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        await graph.Root.ReadAsync(0, new byte[2 * Block]);
    }

    [Fact]
    public async Task Child_reads_its_parent_and_discarded_blocks_hide_it()
    {
        using var dir = new TempDir();
        byte[] parentContent = TestPattern.Make(Size - 5000, 0, 3);
        var parent = new VdiByHand { Size = Size - 5000, Places = [.. Enumerable.Range(0, 9).Select(i => (uint)(8 - i))] };
        string parentPath = dir.Write("parent.vdi", parent.Build(parentContent));
        string path = dir.Write("child.vdi", Child(parent.CreateId, parent.ModifyId));
        byte[] expected = Content();
        parentContent.AsSpan(2 * Block, Block).CopyTo(expected.AsSpan(2 * Block));
        await using Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=vdi,file.filename={path},backing.file.filename={parentPath}");
        Assert.Empty(graph.Warnings);
        await FlatTableImages.AssertContentAsync(graph.Root, expected, "child");
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.Contains(info.FormatSpecific, fact => fact.Key == "uuid-link");
    }

    [Fact]
    public async Task Child_without_its_parent_is_an_error_that_says_what_to_do()
    {
        using var dir = new TempDir();
        string path = dir.Write("child.vdi", Child(Guid.NewGuid(), Guid.Empty));
        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(path));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
        Assert.Contains("backing.file.filename", e.Describe(), StringComparison.Ordinal);
        byte[] expected = Content();
        await using Graph graph = await TestGraph.OpenOptionsAsync($"driver=vdi,file.filename={path},backing=");
        await FlatTableImages.AssertContentAsync(graph.Root, expected, "without");
    }

    [Fact]
    public async Task Wrong_parent_is_refused_and_a_changed_one_warned_of()
    {
        using var dir = new TempDir();
        var parent = new VdiByHand { Size = Size };
        string parentPath = dir.Write("parent.vdi", parent.Build());
        string wrong = dir.Write("wrong.vdi", Child(Guid.NewGuid(), Guid.Empty));
        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenOptionsAsync(
            $"driver=vdi,file.filename={wrong},backing.file.filename={parentPath}"));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);

        string changed = dir.Write("changed.vdi", Child(parent.CreateId, Guid.NewGuid()));
        await using Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=vdi,file.filename={changed},backing.file.filename={parentPath}");
        Assert.Contains(graph.Warnings, warning => warning.Contains("changed", StringComparison.Ordinal));
    }

    [Fact]
    public async Task First_write_changes_the_modification_id_and_no_other()
    {
        var hand = new VdiByHand { Size = Size };
        var device = new MemoryDevice(hand.Build());
        await using (Graph graph = await TestGraph.Opener.OpenOverAsync(
            "vdi", new BlockNode("image", "test", device), TestGraph.Writable))
        {
            await graph.Root.WriteAsync(0, new byte[] { 1 });
        }

        Assert.Equal(hand.CreateId, new Guid(device.Content.AsSpan(0x188, 16)));
        Assert.NotEqual(hand.ModifyId, new Guid(device.Content.AsSpan(0x198, 16)));
    }

    private static byte[] Child(Guid link, Guid modify) => new VdiByHand
    {
        Size = Size,
        Type = 4,
        LinkId = link,
        ParentModifyId = modify,
        Places = s_scattered,
        CreateId = Guid.NewGuid(),
    }.Build(Content());

    /// <summary>What the scattered image holds: data, and zeroes in blocks 2 and 5.</summary>
    private static byte[] Content()
    {
        byte[] content = TestPattern.Make(Size, 0, 7);
        content.AsSpan(2 * Block, Block).Clear();
        content.AsSpan(5 * Block, Block).Clear();
        return content;
    }

    private static async ValueTask<Graph> OpenAsync(byte[] image, OpenFlags? flags = null) =>
        (await FlatTableImages.OpenAsync("vdi", image, flags ?? TestGraph.ReadOnly)).Graph;
}
