using ImageMount.Formats.Vhdx;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vhdx;

/// <summary>New images, small and as large as the format allows, as we and qemu see them.</summary>
public sealed class VhdxCreatorTests
{
    public static TheoryData<string> LayoutNames() =>
        [.. VhdxImages.Layouts.Keys.Where(name => !name.EndsWith("4096", StringComparison.Ordinal))];

    [SkippableTheory]
    [MemberData(nameof(LayoutNames))]
    public async Task Qemu_accepts_and_writes_a_new_image(string layout)
    {
        using var dir = new TempDir();
        byte[] image = await VhdxImages.CreateAsync(VhdxImages.Layouts[layout], (5 << 20) + 512);
        CheckReport report = await VhdxImages.CheckAsync(image);
        Assert.Equal((0L, 0L, 0L), (report.Corruptions, report.Leaks, report.CheckErrors));
        string path = dir.Write("new.vhdx", image);
        Qemu.Img("check", "-f", "vhdx", path);
        Qemu.Io("vhdx", path, "write -P 3 1M 2M", "write -P 4 5M 512");
        byte[] found = await VhdxImages.ReadAllAsync(File.ReadAllBytes(path));
        Assert.Equal(2 << 20, found.AsSpan().Count((byte)3));
        Assert.Equal(512, found.AsSpan(5 << 20).Count((byte)4));
    }

    [Theory]
    [InlineData(64L << 40, 256 << 20, 512)]
    [InlineData(64L << 40, 0, 4096)]
    [InlineData(6L << 40, 1 << 20, 512)]
    [InlineData(0, 0, 512)]
    public async Task Disks_up_to_the_largest_are_made_and_written_at_both_ends(
        long size, long blockSize, int sectorSize)
    {
        using var dir = new TempDir();
        string path = dir.File("large.vhdx");
        var options = new OptionMap();
        options.Set("size", size.ToString(System.Globalization.CultureInfo.InvariantCulture));
        options.Set("block_size", blockSize.ToString(System.Globalization.CultureInfo.InvariantCulture));
        options.Set("logical_sector_size", sectorSize.ToString(System.Globalization.CultureInfo.InvariantCulture));
        options.Set("block_state_zero", "off");
        await new ImageMaker(TestGraph.Registry).CreateAsync("vhdx", path, options, new CreateRequest());
        long[] places = size == 0 ? [] : [0, (size / 2) - 5000, size - 10_000];
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            Assert.Equal(size, graph.Root.Length);
            foreach (long at in places)
            {
                await graph.Root.WriteAsync(at, TestPattern.Make(10_000, at, 1));
            }
        }

        await using Graph again = await TestGraph.OpenAsync(path);
        foreach (long at in places)
        {
            var found = new byte[10_000];
            await again.Root.ReadAsync(at, found);
            TestPattern.AssertEqual(TestPattern.Make(10_000, at, 1), found, at, "what was written");
        }

        CheckReport report = await ((ICheckable)again.Root.Device).CheckAsync(CancellationToken.None);
        Assert.Equal(0, report.Corruptions);
    }

    [Theory]
    [InlineData("size of no whole sectors")]
    [InlineData("too large")]
    [InlineData("blocks of 3 MiB")]
    [InlineData("small blocks")]
    [InlineData("odd log")]
    [InlineData("sectors of 1024")]
    public async Task Options_that_are_not_possible_are_refused(string what)
    {
        (VhdxCreateOptions options, long size) = what switch
        {
            "size of no whole sectors" => (new VhdxCreateOptions(), 1000L),
            "too large" => (new(), (64L << 40) + 512),
            "blocks of 3 MiB" => (new() { BlockSize = 3 << 20 }, 1 << 20),
            "small blocks" => (new() { BlockSize = 512 << 10 }, 1 << 20),
            "odd log" => (new() { LogSize = (1 << 20) + 4096 }, 1 << 20),
            _ => (new() { LogicalSectorSize = 1024 }, 1 << 20),
        };
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => VhdxImages.CreateAsync(options, size));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
    }

    [Fact]
    public async Task Chunks_keep_the_entry_of_their_bitmap_between_their_blocks()
    {
        // With blocks of 256 MiB a chunk has 16; the 17th block's entry is the 18th.
        using var dir = new TempDir();
        string path = dir.File("chunks.vhdx");
        var options = new OptionMap();
        options.Set("size", "10G");
        options.Set("block_size", "256M");
        await new ImageMaker(TestGraph.Registry).CreateAsync("vhdx", path, options, new CreateRequest());
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            for (int block = 14; block < 20; block++)
            {
                await graph.Root.WriteAsync(((long)block << 28) - 512, TestPattern.Make(1024, 0, block));
            }
        }

        byte[] bat = new byte[64 * 8];
        using (Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(path))
        {
            RandomAccess.Read(file, bat, VhdxByHand.Bat);
        }

        int[] states = [.. Enumerable.Range(0, 25).Select(i => (int)(BitConverter.ToUInt64(bat, i * 8) & 7))];
        Assert.Equal([2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 6, 6, 6, 0, 6, 6, 6, 6, 2, 2, 2, 2], states);
        Qemu.Img("check", "-f", "vhdx", path);
    }
}
