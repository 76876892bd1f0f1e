using ImageMount.Formats.Vhdx;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.Vhdx;

/// <summary>Other sizes: what the BAT must say of blocks that come and go, and what must not shine through.</summary>
public sealed class VhdxResizeTests
{
    private const int Block = VhdxImages.Block;

    [Fact]
    public async Task Grown_disk_is_zero_whatever_stood_in_the_unused_part_of_the_table()
    {
        byte[] content = TestPattern.Make(Block + 4096, 0, 1);
        byte[] image = await VhdxImages.WriteAsync(
            await VhdxImages.CreateAsync(VhdxImages.Layouts["dynamic"], content.Length), 0, content);
        var hand = new VhdxByHand(image);

        // Entries behind the last block, which others may have left, and content behind the end in the last block.
        hand.Entry(2, 6, 4).Entry(3, 7, 5);
        hand.Image.AsSpan((int)(hand.U64(VhdxByHand.Bat + 8) >> 20 << 20) + 4096, Block - 4096).Fill(0xEE);
        byte[] grown = await ResizeAsync(hand.Image, 4 * Block);
        byte[] expected = new byte[4 * Block];
        content.CopyTo(expected, 0);
        Assert.Equal(expected, await VhdxImages.ReadAllAsync(grown));
        await VhdxImages.AssertSoundAsync(grown, "grown");
    }

    [Fact]
    public async Task Grown_child_does_not_show_the_end_of_a_longer_parent()
    {
        using var dir = new TempDir();
        var options = new VhdxCreateOptions { BlockSize = Block };
        byte[] content = TestPattern.Make(3 * Block, 0, 1);
        byte[] parent = await VhdxImages.WriteAsync(await VhdxImages.CreateAsync(options, content.Length), 0, content);
        OptionMap more = VhdxImages.WithParent(dir.Write("parent.vhdx", parent));
        byte[] child = await VhdxImages.CreateChildAsync(parent, "parent.vhdx", Block + 1024, options);
        child = await VhdxImages.WriteAsync(child, Block, TestPattern.Make(512, 0, 2), more);
        byte[] grown = await ResizeAsync(child, 3 * Block, more);
        byte[] expected = new byte[3 * Block];
        content.AsSpan(0, Block + 1024).CopyTo(expected);
        TestPattern.Make(512, 0, 2).CopyTo(expected, Block);
        Assert.Equal(expected, await VhdxImages.ReadAllAsync(grown, more));
    }

    [Fact]
    public async Task Size_beyond_the_table_or_of_no_whole_sectors_is_refused_and_nothing_changes()
    {
        byte[] image = await VhdxImages.CreateAsync(VhdxImages.Layouts["dynamic"], Block);
        byte[] before = (byte[])image.Clone();
        (Graph graph, MemoryDevice device) = await VhdxImages.OpenAsync(image);
        foreach (long size in (long[])[(131072L << 20) + 512, Block + 1, 65L << 40])
        {
            await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.TryResizeAsync(size));
        }

        await graph.CloseAsync();
        Assert.Equal(before, device.Content);
    }

    [SkippableFact]
    public async Task Qemu_accepts_a_disk_that_grew_and_shrank()
    {
        using var dir = new TempDir();
        byte[] image = await VhdxImages.WriteAsync(
            await VhdxImages.CreateAsync(VhdxImages.Layouts["fixed"], 2 * Block), 0, TestPattern.Make(2 * Block, 0, 1));
        image = await ResizeAsync(image, (5 * Block) + 512);
        image = await ResizeAsync(image, (3 * Block) + 1024);
        string path = dir.Write("resized.vhdx", image);
        Qemu.Img("check", "-f", "vhdx", path);
        string raw = dir.File("flat");
        Qemu.Img("convert", "-f", "vhdx", "-O", "raw", path, raw);
        byte[] expected = new byte[(3 * Block) + 1024];
        TestPattern.Make(2 * Block, 0, 1).CopyTo(expected, 0);
        Assert.Equal(expected, File.ReadAllBytes(raw));
    }

    [Theory]
    [InlineData(Block + 4096, 3 * Block)]
    [InlineData(3 * Block, Block + 4096)]
    public async Task Crash_while_resizing_leaves_the_old_or_the_new_size(int from, int to)
    {
        byte[] content = TestPattern.Make(from, 0, 1);
        byte[] image = await VhdxImages.WriteAsync(
            await VhdxImages.CreateAsync(VhdxImages.Layouts["dynamic"], from), 0, content);
        var device = new CrashDevice(image);
        Graph graph = await VhdxImages.OpenOverAsync(new BlockNode("file", "test", device), TestGraph.Writable);
        Assert.True(await graph.Root.TryResizeAsync(to));
        await graph.CloseAsync();
        Array.Resize(ref content, Math.Max(from, to));
        for (int cut = 0; cut <= device.OperationCount; cut++)
        {
            foreach (CrashPolicy policy in Enum.GetValues<CrashPolicy>())
            {
                CrashDevice left = device.Recover(cut, policy, 7);
                Graph again = await VhdxImages.OpenOverAsync(
                    new BlockNode("file", "test", left), cut % 2 == 0 ? TestGraph.Writable : TestGraph.ReadOnly);
                Assert.True(again.Root.Length == from || again.Root.Length == to, $"cut {cut}: {again.Root.Length}");
                byte[] found = await VhdxImages.ReadAllAsync(again.Root);
                TestPattern.AssertEqual(content.AsSpan(0, found.Length), found, 0, $"cut {cut}, {policy}");
                CheckReport report = await ((ICheckable)again.Root.Device).CheckAsync(CancellationToken.None);
                Assert.True(report.Corruptions == 0, $"cut {cut}, {policy}: {string.Join('\n', report.Problems)}");
                await again.CloseAsync();
            }
        }
    }

    private static async Task<byte[]> ResizeAsync(byte[] image, long size, OptionMap? options = null)
    {
        (Graph graph, MemoryDevice device) = await VhdxImages.OpenAsync(image, null, options);
        await using (graph)
        {
            Assert.True(await graph.Root.TryResizeAsync(size));
            Assert.Equal(size, graph.Root.Length);
        }

        return device.Content;
    }
}
