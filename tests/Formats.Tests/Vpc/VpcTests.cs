using System.Text;
using ImageMount.Formats.Tests.BlockTables;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vpc;

/// <summary>VHDs that no program at hand makes: scattered, differencing, damaged, of every program's way of counting.</summary>
public sealed class VpcTests
{
    private const int Block = 8 << 10;
    private const int Size = (9 * Block) + 1024;

    private static readonly int[] s_order = [7, 0, 3, 4, 9, 1];

    /// <summary>Half of the sectors, in runs of every length up to 5.</summary>
    private static bool IsStored(int sector) => sector % 11 is 0 or 2 or 3 or 6 or 7 or 8 && sector % 3 != 2;

    [Fact]
    public async Task Scattered_blocks_read_right()
    {
        byte[] content = Content();
        byte[] image = new VpcByHand { Size = Size, Order = s_order }.Build(content);
        await using Graph graph = await OpenAsync(image);
        await FlatTableImages.AssertContentAsync(graph.Root, content, "all");
        await FlatTableImages.AssertCleanAsync(graph, "as made");
    }

    [Fact]
    public async Task Differencing_disk_takes_each_sector_from_where_its_bit_says()
    {
        // qemu opens such a disk as if it were complete, and returns zeroes for what is the parent's.
        using var dir = new TempDir();
        (string path, byte[] expected) = MakeChild(dir);
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal("vpc", graph.Root.Driver);
        Assert.Empty(graph.Warnings);
        await FlatTableImages.AssertContentAsync(graph.Root, expected, "all");
        var random = new Random(3);
        for (int i = 0; i < 300; i++)
        {
            int count = random.Next(1, 20_000);
            int at = random.Next(0, Size - count + 1);
            var part = new byte[count];
            await graph.Root.ReadAsync(at, part);
            TestPattern.AssertEqual(expected.AsSpan(at, count), part, at, $"read {i}");
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Differencing_disk_keeps_its_bits_right_when_written(int seed)
    {
        using var dir = new TempDir();
        (string path, byte[] expected) = MakeChild(dir);
        byte[] parent = File.ReadAllBytes(dir.File("parent.vhd"));
        var random = new Random(seed);
        for (int session = 0; session < 3; session++)
        {
            await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
            {
                for (int i = 0; i < 25; i++)
                {
                    int count = random.Next(1, random.Next(2) == 0 ? 700 : 12_000);
                    int at = random.Next(0, Size - count + 1);
                    if (random.Next(4) == 0)
                    {
                        expected.AsSpan(at, count).Clear();
                        await graph.Root.ZeroAsync(at, count, ZeroFlags.MayUnmap);
                        continue;
                    }

                    TestPattern.Fill(expected.AsSpan(at, count), at, i);
                    await graph.Root.WriteAsync(at, expected.AsMemory(at, count));
                }

                await FlatTableImages.AssertContentAsync(graph.Root, expected, $"seed {seed}, session {session}");
            }

            await using Graph again = await TestGraph.OpenAsync(path);
            await FlatTableImages.AssertContentAsync(again.Root, expected, $"seed {seed}, after session {session}");
            await FlatTableImages.AssertCleanAsync(again, $"seed {seed}, after session {session}");
        }

        Assert.Equal(parent, File.ReadAllBytes(dir.File("parent.vhd")));
    }

    [Fact]
    public async Task Dynamic_disk_with_clear_bits_reads_its_bytes_and_sets_the_bits_it_writes()
    {
        byte[] content = Content();
        var device = new MemoryDevice(
            new VpcByHand { Size = Size, Order = s_order, IsStored = IsStored }.Build(content));
        await using (Graph graph = await TestGraph.Opener.OpenOverAsync(
            "vpc", new BlockNode("image", "test", device), TestGraph.Writable))
        {
            await FlatTableImages.AssertContentAsync(graph.Root, content, "before");
            TestPattern.Fill(content.AsSpan(7 * Block, 5 * 512), 1, 1);
            await graph.Root.WriteAsync(7 * Block, content.AsMemory(7 * Block, 5 * 512));
            await FlatTableImages.AssertContentAsync(graph.Root, content, "written");
        }

        int bits = device.Content[2048] << 8 | device.Content[2049]; // Block 7 stands first, behind the table.
        for (int i = 0; i < 16; i++)
        {
            Assert.Equal(i < 5 || IsStored((7 * 16) + i), (bits << i & 0x8000) != 0);
        }
    }

    [Theory]
    [InlineData("win ", false)]
    [InlineData("d2v ", false)]
    [InlineData("qem2", false)]
    [InlineData("tap\0", false)]
    [InlineData("CTXS", false)]
    [InlineData("wa\0\0", false)]
    [InlineData("vpc ", true)]
    [InlineData("qemu", true)]
    [InlineData("vbox", true)]
    public async Task Size_is_counted_as_the_creator_counts(string creator, bool byGeometry)
    {
        var hand = new VpcByHand { Size = Size, Creator = creator, Geometry = (2, 4, 17), Order = s_order };
        await using (Graph graph = await OpenAsync(hand.Build(Content())))
        {
            Assert.Equal(byGeometry ? 2 * 4 * 17 * 512 : Size, graph.Root.Length);
        }

        foreach ((string how, long size) in new[] { ("chs", 2 * 4 * 17 * 512L), ("current_size", Size) })
        {
            var options = new OptionMap();
            options.Set("force_size_calc", how);
            (Graph graph, _) = await FlatTableImages.OpenAsync("vpc", hand.Build(Content()), TestGraph.ReadOnly, options);
            await using (graph)
            {
                Assert.Equal(size, graph.Root.Length);
            }
        }

        hand = new VpcByHand { Size = Size, Creator = creator, Order = s_order };
        await using Graph largest = await OpenAsync(hand.Build(Content()));
        Assert.Equal(Size, largest.Root.Length);
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public async Task Either_footer_stands_in_for_the_other_and_is_restored_by_writing(bool damageHead, bool damageTail)
    {
        byte[] content = Content();
        byte[] image = new VpcByHand { Size = Size, Order = s_order }.Build(content);
        if (damageHead)
        {
            image[70] ^= 1;
        }

        if (damageTail)
        {
            image[^450] ^= 1;
        }

        await using (Graph graph = await OpenAsync(image))
        {
            Assert.Single(graph.Warnings);
            await FlatTableImages.AssertContentAsync(graph.Root, content, "read");
            CheckReport report = await ((ICheckable)graph.Image.Device).CheckAsync(default);
            Assert.Equal((0, 1), (report.Corruptions, report.Leaks));
        }

        var device = new MemoryDevice(image);
        await using (Graph graph = await TestGraph.Opener.OpenOverAsync(
            "vpc", new BlockNode("image", "test", device), TestGraph.Writable))
        {
            content[0]++;
            await graph.Root.WriteAsync(0, content.AsMemory(0, 1));
        }

        await using Graph again = await OpenAsync(device.Content);
        Assert.Empty(again.Warnings);
        await FlatTableImages.AssertContentAsync(again.Root, content, "again");
        await FlatTableImages.AssertCleanAsync(again, "restored");
    }

    [Fact]
    public async Task Both_footers_damaged_is_an_error()
    {
        byte[] image = new VpcByHand { Size = Size }.Build();
        image[70] ^= 1;
        image[^450] ^= 1;
        var e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
    }

    [Fact]
    public async Task Fixed_disk_is_found_by_its_end_even_when_the_guest_begins_like_a_vhd()
    {
        using var dir = new TempDir();
        byte[] inner = new VpcByHand { Size = Size, Order = s_order }.Build(Content());
        string path = dir.Write("fixed.vhd", new VpcByHand { Size = inner.Length, Type = 2 }.Build(inner));
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            Assert.Equal("vpc", graph.Root.Driver);
            await FlatTableImages.AssertContentAsync(graph.Root, inner, "fixed");
            await graph.Root.WriteAsync(inner.Length - 700, inner.AsMemory(0, 700));
            await FlatTableImages.AssertCleanAsync(graph, "fixed");
        }

        Assert.Equal(inner.Length + 512, new FileInfo(path).Length);
    }

    [Fact]
    public async Task Footer_of_511_bytes_is_understood()
    {
        byte[] content = Content();
        byte[] image = new VpcByHand { Size = Size, Type = 2 }.Build(content)[..^1];
        await using Graph graph = await OpenAsync(image);
        await FlatTableImages.AssertContentAsync(graph.Root, content, "511");
    }

    [Theory]
    [InlineData("W2ru", @".\parent.vhd")]
    [InlineData("W2ru", @"parent.vhd")]
    [InlineData("W2ku", @"C:\machines\old\parent.vhd")]
    [InlineData("MacX", "file://localhost/Volumes/old/parent.vhd")]
    [InlineData(null, "parent.vhd")]
    public async Task Parent_is_found_by_each_kind_of_locator(string? platform, string text)
    {
        using var dir = new TempDir();
        byte[] bytes = platform == "MacX" ? Encoding.UTF8.GetBytes(text) : VpcByHand.Utf16(text);
        (string path, byte[] expected) = MakeChild(
            dir, platform is null ? [] : [(platform, bytes)], platform is null ? text : "");
        await using Graph graph = await TestGraph.OpenAsync(path);
        await FlatTableImages.AssertContentAsync(graph.Root, expected, text);
    }

    [Fact]
    public async Task Wrong_parent_is_refused_unless_the_user_names_it()
    {
        using var dir = new TempDir();
        (string path, byte[] expected) = MakeChild(dir);
        var other = new VpcByHand
        {
            Size = Size - 2048,
            Order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
            UniqueId = Guid.NewGuid(),
        };
        byte[] parent = other.Build(TestPattern.Make(Size - 2048, 0, 5));
        dir.Write("parent.vhd", parent);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(path));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        await using Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=vpc,file.filename={path},backing.file.filename={dir.File("parent.vhd")}");
        Assert.NotEmpty(graph.Warnings);
        await FlatTableImages.AssertContentAsync(graph.Root, expected, "named");
    }

    [Fact]
    public async Task Missing_parent_is_an_error_and_can_be_left_out_on_purpose()
    {
        using var dir = new TempDir();
        (string path, _) = MakeChild(dir);
        File.Delete(dir.File("parent.vhd"));
        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(path));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
        await using Graph graph = await TestGraph.OpenOptionsAsync($"driver=vpc,file.filename={path},backing=");
        Assert.Equal(Size, graph.Root.Length);
    }

    [Fact]
    public async Task Changed_parent_is_warned_of()
    {
        using var dir = new TempDir();
        (string path, _) = MakeChild(dir, timestamp: 5_000);
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Contains(graph.Warnings, warning => warning.Contains("changed", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Differencing_disk_that_we_make_remembers_its_parent()
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(Size, 0, 5);
        dir.Write("parent.vhd", new VpcByHand { Size = Size, Order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }.Build(content));
        string path = dir.File("child.vhd");
        var options = new OptionMap();
        options.Set("backing_file", "parent.vhd");
        await new ImageMaker(TestGraph.Registry).CreateAsync("vpc", path, options, new CreateRequest());
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            Assert.Empty(graph.Warnings);
            await FlatTableImages.AssertContentAsync(graph.Root, content, "empty child");
            content.AsSpan(10_000, 700).Fill(9);
            await graph.Root.WriteAsync(10_000, content.AsMemory(10_000, 700));
        }

        await using Graph again = await TestGraph.OpenAsync(path);
        await FlatTableImages.AssertContentAsync(again.Root, content, "written child");
        Assert.Equal("parent.vhd", (await again.Root.DescribeAsync()).BackingFileName);
        string info = Qemu.Run("vhdiinfo", path).Output;
        Assert.Contains("Differential", info, StringComparison.Ordinal);
        Assert.Contains("parent.vhd", info, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Block_over_the_metadata_or_over_another_is_reported_and_never_written()
    {
        byte[] image = new VpcByHand { Size = Size, Order = s_order }.Build(Content());
        image.AsSpan(1536 + (4 * 2), 4).Clear();
        image[1536 + (4 * 2) + 3] = 3; // Block 2 over the table.
        image.AsSpan(1536 + (4 * 3), 4).CopyTo(image.AsSpan(1536 + (4 * 5))); // Block 5 where block 3 is.
        await using (Graph graph = await OpenAsync(image))
        {
            CheckReport report = await ((ICheckable)graph.Image.Device).CheckAsync(default);
            Assert.Equal(3, report.Corruptions); // Block 2 reaches over the first block of the file, too.
            await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.ReadAsync(2 * Block, new byte[512]));
        }

        await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image, TestGraph.Writable));
    }

    /// <summary>A parent that is full, and a child with some sectors of some blocks.</summary>
    private static (string Path, byte[] Expected) MakeChild(
        TempDir dir, (string, byte[])[]? locators = null, string name = "", uint timestamp = 1000)
    {
        var parent = new VpcByHand { Size = Size - 2048, Order = [4, 3, 2, 1, 0, 9, 8, 7, 6, 5] };
        byte[] parentContent = TestPattern.Make(Size - 2048, 0, 5);
        dir.Write("parent.vhd", parent.Build(parentContent));
        byte[] content = TestPattern.Make(Size, 0, 6);
        var child = new VpcByHand
        {
            Size = Size,
            Type = 4,
            Order = s_order,
            IsStored = IsStored,
            UniqueId = Guid.NewGuid(),
            ParentId = parent.UniqueId,
            ParentTimestamp = timestamp,
            ParentName = name,
            Locators = locators ?? [("W2ku", VpcByHand.Utf16(@"D:\gone\parent.vhd")), ("W2ru", VpcByHand.Utf16(@".\parent.vhd"))],
        };
        var expected = new byte[Size];
        parentContent.CopyTo(expected, 0);
        for (int sector = 0; sector < Size / 512; sector++)
        {
            if (s_order.Contains(sector / (Block / 512)) && IsStored(sector))
            {
                content.AsSpan(sector * 512, 512).CopyTo(expected.AsSpan(sector * 512));
            }
        }

        return (dir.Write("child.vhd", child.Build(content)), expected);
    }

    /// <summary>What the scattered image holds.</summary>
    private static byte[] Content()
    {
        byte[] content = TestPattern.Make(Size, 0, 7);
        foreach (int block in Enumerable.Range(0, 10).Except(s_order))
        {
            content.AsSpan(block * Block, Block).Clear();
        }

        return content;
    }

    private static async ValueTask<Graph> OpenAsync(byte[] image, OpenFlags? flags = null) =>
        (await FlatTableImages.OpenAsync("vpc", image, flags ?? TestGraph.ReadOnly)).Graph;
}
