using System.Text;
using ImageMount.Formats.Vhdx;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vhdx;

/// <summary>Differencing disks: how the parent is found and recognised, and what comes from it.</summary>
public sealed class VhdxParentTests
{
    private const int Block = VhdxImages.Block;
    private const int Size = (2 * Block) + 8192;

    [Fact]
    public async Task Child_made_by_us_finds_its_parent_and_reads_through_it()
    {
        using var dir = new TempDir();
        Directory.CreateDirectory(dir.File("bases"));
        Directory.CreateDirectory(dir.File("children"));
        byte[] content = await MakeParentAsync(dir, "bases/base.vhdx");
        await MakeAsync(dir, "children/child.vhdx", "../bases/base.vhdx");
        await MakeAsync(dir, "children/grandchild.vhdx", "child.vhdx");

        // Out of the folder of the image that is named: only when it is allowed.
        BlockException outside = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.OpenAsync(dir.File("children/child.vhdx")));
        Assert.Equal(BlockErrorKind.PermissionDenied, outside.Kind);
        var flags = new OpenFlags { AllowExternal = true };
        await using (Graph graph = await TestGraph.OpenAsync(dir.File("children/grandchild.vhdx"), flags))
        {
            Assert.Equal(content, await VhdxImages.ReadAllAsync(graph.Root));
            DeviceInfo info = await graph.Root.DescribeAsync();
            Assert.Equal(".\\child.vhdx", info.BackingFileName);
            Assert.Equal("vhdx", info.BackingFormat);
        }

        // A write of some sectors takes the room of one block and one bitmap, not a copy of the parent.
        await using (Graph graph = await TestGraph.OpenAsync(
            dir.File("children/grandchild.vhdx"), flags with { Writable = true }))
        {
            byte[] part = TestPattern.Make(3000, 100_100, 9);
            await graph.Root.WriteAsync(100_100, part);
            part.CopyTo(content, 100_100);
            Assert.Equal(content, await VhdxImages.ReadAllAsync(graph.Root));
            BlockExtent own = await graph.Root.MapAsync(99_840, Block);
            Assert.Equal((0, 7 * 512), (own.Depth, (int)own.Length));
            BlockExtent theirs = await graph.Root.MapAsync(99_840 + own.Length, Block);
            Assert.Equal(2, theirs.Depth);
        }

        await using (Graph graph = await TestGraph.OpenAsync(dir.File("children/grandchild.vhdx"), flags))
        {
            Assert.Equal(content, await VhdxImages.ReadAllAsync(graph.Root));
            CheckReport report = await ((ICheckable)graph.Root.Device).CheckAsync(CancellationToken.None);
            Assert.Equal((0L, 0L), (report.Corruptions, report.Leaks));
        }
    }

    [Fact]
    public async Task Parent_that_changed_is_refused_and_used_when_it_is_named()
    {
        using var dir = new TempDir();
        byte[] content = await MakeParentAsync(dir, "base.vhdx");
        await MakeAsync(dir, "child.vhdx", "base.vhdx");
        await using (Graph parent = await TestGraph.OpenAsync(dir.File("base.vhdx"), TestGraph.Writable))
        {
            await parent.Root.WriteAsync(0, new byte[512]);
            content.AsSpan(0, 512).Clear();
        }

        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.OpenAsync(dir.File("child.vhdx")));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        Assert.Contains("changed", e.Message, StringComparison.Ordinal);
        await using Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=vhdx,file.filename={dir.File("child.vhdx")},backing.file.filename={dir.File("base.vhdx")}");
        Assert.Equal(content, await VhdxImages.ReadAllAsync(graph.Root));
        Assert.Single(graph.Warnings);
    }

    [Fact]
    public async Task Missing_parent_is_an_error_that_says_how_to_go_on()
    {
        using var dir = new TempDir();
        byte[] content = await MakeParentAsync(dir, "base.vhdx");
        await MakeAsync(dir, "child.vhdx", "base.vhdx");
        File.Move(dir.File("base.vhdx"), dir.File("moved.vhdx"));
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.OpenAsync(dir.File("child.vhdx")));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
        Assert.Contains("backing.file.filename", e.Describe(), StringComparison.Ordinal);
        string child = $"driver=vhdx,file.filename={dir.File("child.vhdx")}";
        string moved = $"{child},backing.file.filename={dir.File("moved.vhdx")}";
        await using (Graph named = await TestGraph.OpenOptionsAsync(moved))
        {
            Assert.Equal(content, await VhdxImages.ReadAllAsync(named.Root));
        }

        await using (Graph none = await TestGraph.OpenOptionsAsync($"{child},backing="))
        {
            Assert.Equal(new byte[Size], await VhdxImages.ReadAllAsync(none.Root));
        }

        var unopened = new OpenFlags { NoBacking = true };
        await using Graph closed = await TestGraph.OpenAsync(dir.File("child.vhdx"), unopened);
        await Assert.ThrowsAsync<BlockException>(async () => await closed.Root.ReadAsync(0, new byte[1]));
    }

    [Fact]
    public async Task Parent_of_a_Windows_path_is_looked_for_beside_the_child()
    {
        using var dir = new TempDir();
        byte[] content = await MakeParentAsync(dir, "base.vhdx");
        await MakeAsync(dir, "child.vhdx", "base.vhdx");
        var hand = new VhdxByHand(File.ReadAllBytes(dir.File("child.vhdx")));

        // The key of the relative path becomes another one; what is left is the Windows path.
        int at = hand.Image.AsSpan(0, VhdxByHand.Bat).IndexOf(Encoding.Unicode.GetBytes("relative_path"));
        hand.Put(at, Encoding.Unicode.GetBytes("unknown_key__"));
        File.WriteAllBytes(dir.File("child.vhdx"), hand.Image);
        await using Graph graph = await TestGraph.OpenAsync(dir.File("child.vhdx"));
        Assert.Equal(content, await VhdxImages.ReadAllAsync(graph.Root));
    }

    [Fact]
    public async Task Every_bit_of_a_sector_bitmap_decides_for_its_sector_alone()
    {
        using var dir = new TempDir();
        byte[] content = await MakeParentAsync(dir, "base.vhdx");
        await MakeAsync(dir, "child.vhdx", "base.vhdx");
        var hand = new VhdxByHand(File.ReadAllBytes(dir.File("child.vhdx")));
        int end = hand.Image.Length;
        hand.Resize(end + (3 * Block));
        var random = new Random(5);
        byte[] own = TestPattern.Make(2 * Block, 0, 6);
        own.CopyTo(hand.Image, end + Block);

        // Blocks 0 and 1 in part, in the wrong order in the file. The chunk's entry is the 4096th after its blocks.
        hand.Entry(0, 7, (end >> 20) + 2).Entry(1, 7, (end >> 20) + 1).Entry(4096, 6, end >> 20);
        for (int sector = 0; sector < 2 * Block / 512; sector++)
        {
            bool isHere = random.Next(3) == 0 ^ sector % 1000 < 300;
            if (isHere)
            {
                hand.Image[end + (sector / 8)] |= (byte)(1 << (sector % 8));
                int from = sector * 512 < Block ? Block + (sector * 512) : (sector * 512) - Block;
                own.AsSpan(from, 512).CopyTo(content.AsSpan(sector * 512));
            }
        }

        File.WriteAllBytes(dir.File("child.vhdx"), hand.Image);
        await using Graph graph = await TestGraph.OpenAsync(dir.File("child.vhdx"));
        byte[] whole = await VhdxImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(content, whole, 0, "whole");
        for (int i = 0; i < 200; i++)
        {
            int at = random.Next(Size);
            var part = new byte[Math.Min(Size - at, random.Next(1, 3000))];
            await graph.Root.ReadAsync(at, part);
            TestPattern.AssertEqual(content.AsSpan(at, part.Length), part, at, "part");
        }

        hand.Entry(4096, 0, 0);
        File.WriteAllBytes(dir.File("child.vhdx"), hand.Image);
        Assert.True((await CheckAsync(dir.File("child.vhdx"))).Corruptions > 0);
    }

    [Fact]
    public async Task Bits_that_others_left_do_not_count_for_a_block_that_was_not_there()
    {
        using var dir = new TempDir();
        byte[] content = await MakeParentAsync(dir, "base.vhdx");
        await MakeAsync(dir, "child.vhdx", "base.vhdx");
        var hand = new VhdxByHand(File.ReadAllBytes(dir.File("child.vhdx")));
        int end = hand.Image.Length;
        hand.Resize(end + Block).Entry(4096, 6, end >> 20);
        hand.Image.AsSpan(end, 4096).Fill(0xFF);
        File.WriteAllBytes(dir.File("child.vhdx"), hand.Image);
        await using (Graph graph = await TestGraph.OpenAsync(dir.File("child.vhdx"), TestGraph.Writable))
        {
            await graph.Root.WriteAsync(5000, TestPattern.Make(100, 0, 3));
            TestPattern.Make(100, 0, 3).CopyTo(content, 5000);
            Assert.Equal(content, await VhdxImages.ReadAllAsync(graph.Root));
        }

        await using Graph again = await TestGraph.OpenAsync(dir.File("child.vhdx"));
        Assert.Equal(content, await VhdxImages.ReadAllAsync(again.Root));
    }

    [Fact]
    public async Task Block_whose_last_sector_is_written_becomes_fully_present()
    {
        using var dir = new TempDir();
        await MakeParentAsync(dir, "base.vhdx");
        await MakeAsync(dir, "child.vhdx", "base.vhdx");
        await using (Graph graph = await TestGraph.OpenAsync(dir.File("child.vhdx"), TestGraph.Writable))
        {
            for (int at = 0; at < Block; at += 128 << 10)
            {
                await graph.Root.WriteAsync(at, TestPattern.Make(128 << 10, at, 3));
            }

            // The last one, which ends with the disk.
            await graph.Root.WriteAsync(2 * Block, TestPattern.Make(512, 0, 3));
            await graph.Root.WriteAsync((2 * Block) + 512, TestPattern.Make(8192 - 512, 0, 3));
        }

        var hand = new VhdxByHand(File.ReadAllBytes(dir.File("child.vhdx")));
        Assert.Equal(6UL, hand.U64(VhdxByHand.Bat) & 7);
        Assert.Equal(0UL, hand.U64(VhdxByHand.Bat + 8) & 7);
        Assert.Equal(6UL, hand.U64(VhdxByHand.Bat + 16) & 7);
    }

    private static async Task<CheckReport> CheckAsync(string path)
    {
        await using Graph graph = await TestGraph.OpenAsync(path);
        return await ((ICheckable)graph.Root.Device).CheckAsync(CancellationToken.None);
    }

    private static async Task<byte[]> MakeParentAsync(TempDir dir, string name)
    {
        byte[] content = TestPattern.Make(Size, 0, 1);
        byte[] image = await VhdxImages.CreateAsync(VhdxImages.Layouts["dynamic"], Size);
        dir.Write(name, await VhdxImages.WriteAsync(image, 0, content));
        return content;
    }

    private static async Task MakeAsync(TempDir dir, string name, string parent)
    {
        var options = new OptionMap();
        options.Set("backing_file", parent);
        options.Set("block_size", "1M");
        await new ImageMaker(TestGraph.Registry).CreateAsync("vhdx", dir.File(name), options,
            new CreateRequest { Flags = new OpenFlags { Writable = true, AllowExternal = true } });
    }
}
