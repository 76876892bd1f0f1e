using ImageMount.Formats.Qcow2;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Qcow2;

/// <summary>New images, as qemu sees them.</summary>
public sealed class Qcow2CreatorTests
{
    public static TheoryData<string> LayoutNames() => [.. Qcow2Images.Layouts.Keys];

    [SkippableTheory]
    [MemberData(nameof(LayoutNames))]
    public async Task Qemu_accepts_and_writes_a_new_image(string layout)
    {
        using var dir = new TempDir();
        Qcow2CreateOptions options = Qcow2Images.Layouts[layout];
        byte[] image = await Qcow2Images.CreateAsync(options, (40 << 20) + 512);
        Qcow2Images.AssertPeerClean(image, dir, layout);
        await Qcow2Images.AssertCleanAsync(image, layout);
        string path = dir.Write("new.qcow2", image);
        Qemu.Io("qcow2", path, "write -P 3 1M 3M", "write -P 4 40M 512");
        (Graph graph, _) = await Qcow2Images.OpenAsync(File.ReadAllBytes(path), TestGraph.ReadOnly);
        byte[] found = await Qcow2Images.ReadAllAsync(graph.Root);
        Assert.Equal(3 << 20, found.AsSpan().Count((byte)3));
        Assert.Equal(512, found.AsSpan(40 << 20).Count((byte)4));
        await graph.CloseAsync();
    }

    [Theory]
    [InlineData(1L << 40, 64 << 10)]
    [InlineData(64L << 30, 512)]
    [InlineData(0, 4096)]
    public async Task Large_and_empty_disks_get_tables_that_hold_them(long size, int clusterSize)
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions { ClusterSize = clusterSize }, size);
        await Qcow2Images.AssertCleanAsync(image, $"{size}");
        Assert.Equal(size, Qcow2Header.Parse(image, image.Length).Size);
    }

    [Theory]
    [InlineData("clusters of 1000 bytes")]
    [InlineData("version 2 with extended L2")]
    [InlineData("extended L2 with small clusters")]
    [InlineData("format of no parent")]
    [InlineData("raw without a data file")]
    [InlineData("too large")]
    public async Task Options_that_contradict_each_other_are_refused(string what)
    {
        Qcow2CreateOptions options = what switch
        {
            "clusters of 1000 bytes" => new() { ClusterSize = 1000 },
            "version 2 with extended L2" => new() { Compat = "0.10", ExtendedL2 = true },
            "extended L2 with small clusters" => new() { ClusterSize = 4096, ExtendedL2 = true },
            "format of no parent" => new() { BackingFormat = "raw" },
            "raw without a data file" => new() { DataFileRaw = true },
            _ => new() { ClusterSize = 512 },
        };
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            () => Qcow2Images.CreateAsync(options, what == "too large" ? 1L << 50 : 1 << 20));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
    }

    [SkippableFact]
    public async Task Parent_is_recorded()
    {
        using var dir = new TempDir();
        dir.Write("parent.raw", TestPattern.Make(1 << 20, 0, 1));
        byte[] image = await Qcow2Images.CreateAsync(
            new Qcow2CreateOptions { BackingFile = "parent.raw", BackingFormat = "raw" }, 2 << 20);
        string path = dir.Write("child.qcow2", image);
        await using Graph graph = await TestGraph.OpenAsync(path);
        byte[] found = await Qcow2Images.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(TestPattern.Make(1 << 20, 0, 1), found.AsSpan(0, 1 << 20), 0, "the parent's part");
        Assert.False(found.AsSpan(1 << 20).ContainsAnyExcept((byte)0));
        Qemu.Img("check", path);
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.Equal("parent.raw", info.BackingFileName);
        Assert.Equal("raw", info.BackingFormat);
    }
}
