using System.Text;
using ImageMount.Core.Options;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>Disks that we make: usable here and in qemu.</summary>
public sealed class VmdkCreateTests
{
    private static readonly ImageMaker s_maker = new(TestGraph.Registry);

    [SkippableTheory]
    [InlineData(512, "adapter_type=lsilogic,compat6=on")]
    [InlineData((5 << 20) + 512, "zeroed_grain=on")]
    [InlineData(100L << 30, "hwversion=14,adapter_type=buslogic")]
    [InlineData(2L << 40, "zeroed_grain=on,adapter_type=legacyESX")]
    [InlineData((5 << 20) + 512, "subformat=monolithicFlat")]
    [InlineData((5L << 30) + 512, "subformat=twoGbMaxExtentFlat,adapter_type=lsilogic")]
    [InlineData(4L << 30, "subformat=twoGbMaxExtentSparse")]
    [InlineData((4L << 30) + 512, "subformat=twoGbMaxExtentSparse,zeroed_grain=on")]
    public async Task Disk_is_written_by_us_and_by_qemu(long size, string options)
    {
        using var dir = new TempDir();
        string path = dir.File("new.vmdk");
        await CreateAsync(path, $"size={size},{options}");
        PeerCheck(path, options);
        byte[] ours = TestPattern.Make(512, 0, 1);
        await using (Graph disk = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            Assert.Equal(size, disk.Root.Length);
            await disk.Root.WriteAsync(size - 512, ours);
        }

        Qemu.Io("vmdk", path, $"read -P 0 0 {Math.Max(Math.Min(size - 512, 4096), 0)}", $"write -P 9 {size / 1024 * 512} 512");
        await using Graph again = await TestGraph.OpenAsync(path);
        if (size < 1L << 40)
        {
            await VmdkImages.AssertCleanAsync(again);
        }

        var found = new byte[512];
        await again.Root.ReadAsync(size / 1024 * 512, found);
        Assert.All(found, b => Assert.Equal(9, b));
        if (size > 1024)
        {
            await again.Root.ReadAsync(size - 512, found);
            Assert.Equal(ours, found);
        }
    }

    [SkippableTheory]
    [InlineData("monolithicSparse", "")]
    [InlineData("monolithicSparse", ",compat6=on,adapter_type=lsilogic")]
    [InlineData("monolithicFlat", ",hwversion=13,toolsversion=10")]
    [InlineData("twoGbMaxExtentSparse", "")]
    [InlineData("twoGbMaxExtentFlat", ",adapter_type=legacyESX")]
    public async Task Descriptor_says_what_qemus_does(string subformat, string options)
    {
        using var ours = new TempDir();
        using var theirs = new TempDir();
        await CreateAsync(ours.File("disk.vmdk"), $"size=5G,subformat={subformat}{options}");
        string peer = options.Replace("toolsversion=10", "hwversion=13", StringComparison.Ordinal); // Newer than 7.2.
        Qemu.Img("create", "-q", "-f", "vmdk", "-o", $"subformat={subformat}{peer}", theirs.File("disk.vmdk"), "5G");
        Assert.Equal(
            Directory.GetFiles(theirs.Path).Select(Path.GetFileName).Order(),
            Directory.GetFiles(ours.Path).Select(Path.GetFileName).Order());
        Assert.Equal(Facts(theirs.File("disk.vmdk")), Facts(ours.File("disk.vmdk")));
    }

    [SkippableTheory]
    [InlineData("monolithicSparse")]
    [InlineData("twoGbMaxExtentSparse")]
    public async Task Child_takes_size_and_content_id_from_its_parent_and_is_accepted_by_qemu(string subformat)
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content(1 << 20, 2);
        VmdkImages.Convert(dir, "parent", content, "subformat=monolithicSparse");
        string child = dir.File("child.vmdk");
        await CreateAsync(child, $"subformat={subformat},backing_file=parent.vmdk,backing_fmt=vmdk");
        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, child)), "qemu-img differs");
        await using Graph ours = await TestGraph.OpenAsync(child);
        await VmdkImages.AssertReadsAsync(ours.Root, content, "child");
    }

    [SkippableTheory]
    [InlineData("size=0")]
    [InlineData("size=1T,subformat=monolithicFlat,backing_file=parent.vmdk")]
    [InlineData("size=1M,subformat=monolithicFlat,zeroed_grain=on")]
    [InlineData("size=2049G")]
    [InlineData("size=16T,subformat=twoGbMaxExtentSparse")]
    [InlineData("size=1M,subformat=streamOptimized")]
    [InlineData("size=1M,subformat=other")]
    [InlineData("size=1M,adapter_type=scsi")]
    [InlineData("size=1M,compat6=on,hwversion=7")]
    [InlineData("size=1M,hwversion=7\"")]
    [InlineData("size=1M,backing_file=raw.img,backing_fmt=raw")]
    [InlineData("size=1M,backing_file=raw.img")]
    [InlineData("size=1M,backing_fmt=vmdk")]
    [InlineData("size=1M,backing_file=nothing-there.vmdk")]
    public async Task What_cannot_be_made_is_refused_and_leaves_no_file(string options)
    {
        using var dir = new TempDir();
        dir.Write("raw.img", new byte[1 << 20]);
        await Assert.ThrowsAsync<BlockException>(async () => await CreateAsync(dir.File("x.vmdk"), options));
        Assert.Equal(["raw.img"], Directory.GetFiles(dir.Path).Select(Path.GetFileName));
    }

    [SkippableFact]
    public async Task Name_that_would_end_its_line_in_the_descriptor_is_refused()
    {
        using var dir = new TempDir();
        foreach (string name in new[] { "a\".vmdk", "a\nRW 1 FLAT \"x\".vmdk" })
        {
            var e = await Assert.ThrowsAsync<BlockException>(
                async () => await CreateAsync(dir.File(name), "size=1M"));
            Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        }
    }

    [SkippableFact]
    public async Task Split_disk_of_2_tib_opens_as_one_node_an_extent()
    {
        using var dir = new TempDir();
        string path = dir.File("big.vmdk");
        await CreateAsync(path, "size=2T,subformat=twoGbMaxExtentSparse");
        byte[] bytes = TestPattern.Make(70_000, 0, 4);
        long[] places = [0, (2L << 30) - 35_000, (1L << 40) + 12345, (2L << 40) - 70_000];
        await using (Graph disk = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            Assert.Equal(2L << 40, disk.Root.Length);
            Assert.Equal(1024 + 2, disk.Nodes.Count);
            foreach (long at in places)
            {
                await disk.Root.WriteAsync(at, bytes);
            }
        }

        await using Graph again = await TestGraph.OpenAsync(path);
        foreach (long at in places)
        {
            var found = new byte[bytes.Length];
            await again.Root.ReadAsync(at, found);
            TestPattern.AssertEqual(bytes, found, at, "2 TiB");
        }

        BlockExtent hole = await again.Root.MapAsync(4L << 30, 1L << 30);
        Assert.True(hole.IsZero);
    }

    [SkippableFact]
    public async Task Extents_of_a_whole_chain_have_a_limit_of_their_own()
    {
        using var dir = new TempDir();
        string lines = string.Join('\n', Enumerable.Range(0, 2100).Select(i => $"RW 1 FLAT \"{i}.bin\" 0"));
        for (int i = 0; i < 2100; i++)
        {
            dir.Write($"{i}.bin", new byte[512]);
        }

        dir.Write("parent.vmdk", Encoding.ASCII.GetBytes(EsxImages.Descriptor("custom", lines)));
        await using (Graph one = await TestGraph.OpenAsync(dir.File("parent.vmdk")))
        {
            Assert.Equal(2100 * 512, one.Root.Length);
        }

        string child = dir.Write("child.vmdk", Encoding.ASCII.GetBytes(EsxImages.Descriptor(
            "custom", lines, "parentCID=0badcafe\nparentFileNameHint=\"parent.vmdk\"")));
        var e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(child));
        Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
    }

    internal static ValueTask CreateAsync(string path, string options) =>
        s_maker.CreateAsync("vmdk", path, OptionSyntax.ParsePairs(options), new CreateRequest());

    private static void PeerCheck(string path, string options)
    {
        if (!options.Contains("Flat", StringComparison.Ordinal) && !options.Contains("legacyESX", StringComparison.Ordinal))
        {
            Qemu.Img("check", "-f", "vmdk", path);
        }
    }

    /// <summary>Lines of the descriptor, without spaces, order, and what is random or depends on the version.</summary>
    private static IEnumerable<string> Facts(string path)
    {
        byte[] file = File.ReadAllBytes(path);
        string text = Encoding.UTF8.GetString(file.AsSpan(0, Math.Min(file.Length, 21 * 512)));
        return text[text.IndexOf("# Disk", StringComparison.Ordinal)..].TrimEnd('\0').Split('\n')
            .Select(line => line.Trim())
            .Where(line => line.Length > 0 && line[0] != '#'
                && !line.StartsWith("CID=", StringComparison.Ordinal)
                && !line.StartsWith("encoding=", StringComparison.Ordinal)
                && !line.StartsWith("ddb.toolsVersion", StringComparison.Ordinal))
            .Select(line => line.Contains("geometry", StringComparison.Ordinal) || line.StartsWith("ddb", StringComparison.Ordinal)
                ? line.Replace(" ", "", StringComparison.Ordinal) : line)
            .Order();
    }
}
