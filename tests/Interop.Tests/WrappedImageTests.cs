using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>
/// Images of qemu in files of the tools that people pack them with ("gzip", "xz", "bzip2", "zstd", "tar"): opened in
/// place, they read as the image itself.
/// </summary>
public sealed class WrappedImageTests
{
    private const int Seed = 4711;
    private const long Length = (3 << 20) + (7 * 512);

    public static TheoryData<string, string, string[]> Packers => new()
    {
        { "gzip", ".gz", ["-1"] }, { "gzip", ".gz", ["-9"] }, { "xz", ".xz", ["-0"] },
        { "xz", ".xz", ["-0", "--block-size=300KiB", "--check=sha256"] },
        { "xz", ".xz", ["-1", "--x86", "--lzma2=preset=0"] },
        { "bzip2", ".bz2", ["-1"] }, { "bzip2", ".bz2", ["-9"] }, { "zstd", ".zst", ["-1"] },
        { "zstd", ".zst", ["-12", "--long=24", "--no-check"] }, { "zstd", ".zst", ["-3", "--no-content-size"] },
        { "pzstd", ".zst", ["-1", "-p", "2"] },
    };

    [SkippableTheory]
    [MemberData(nameof(Packers))]
    public async Task Packed_image_reads_as_the_image(string tool, string ending, string[] arguments)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        QemuImage image = QemuImages.Vmdk(scratch, "monolithicSparse", "", Length, Seed);
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        string name = $"{tool} {string.Join(' ', arguments)}";
        string packed = Pack.With(image.Path, tool, ending, arguments);
        await AssertReadsAsync(packed, flat, image, "vmdk", name);
        await AssertReadsAsync(packed, flat, image, "vmdk", $"{name}, format named", "vmdk");
    }

    [SkippableTheory]
    [InlineData("gzip", ".gz")]
    [InlineData("xz", ".xz")]
    [InlineData("bzip2", ".bz2")]
    [InlineData("zstd", ".zst")]
    public async Task File_that_was_packed_in_pieces_reads_as_the_image(string tool, string ending)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        var variant = new Qcow2Variant { ClusterSize = 512, Snapshots = 1, OddSize = true };
        QemuImage image = QemuImages.Qcow2(scratch, variant, Seed);
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        int piece = (int)(new FileInfo(image.Path).Length / 5) + 1;
        await AssertReadsAsync(Pack.Pieces(image.Path, piece, tool, ending, "-1"), flat, image, "qcow2", tool);
    }

    [SkippableTheory]
    [InlineData("gnu")]
    [InlineData("posix")]
    [InlineData("ustar")]
    [InlineData("v7")]
    public async Task Image_in_an_archive_and_in_a_compressed_archive(string format)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        QemuImage image = QemuImages.Vmdk(scratch, "streamOptimized", "", Length, Seed);
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        File.WriteAllText(scratch["appliance.ovf"], "<Envelope/>");
        string archive = Pack.Tar(
            scratch["appliance.tar"], scratch.Folder, ["appliance.ovf", Path.GetFileName(image.Path)],
            $"--format={format}");
        await AssertReadsAsync(archive, flat, image, "vmdk", format);
        await AssertReadsAsync(Pack.With(archive, "zstd", ".zst", "-1"), flat, image, "vmdk", format);
    }

    [SkippableFact]
    public async Task Parent_may_be_compressed()
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        var variant = new Qcow2Variant { ClusterSize = 4096 };
        QemuImage parent = QemuImages.Qcow2(scratch, variant, Seed);
        string child = scratch["child.qcow2"];
        PeerTool.Img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", Path.GetFileName(parent.Path), child);
        PeerTool.Io(child, "qcow2", ["write -q -P 77 5000 9000"]);
        var image = new QemuImage(child, "qcow2", parent.Length, parent.Islands);
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        string packed = Pack.With(parent.Path, "xz", ".xz", "-0");
        File.Move(packed, parent.Path, overwrite: true);
        await using Graph graph = await TestGraph.OpenAsync(child);
        Assert.Equal(["file", "file", "xz", "qcow2", "qcow2"], graph.Nodes.Select(node => node.Driver));
        await ReadComparison.AssertSameContentAsync(graph.Root, flat, image.Islands, Seed, "child of a packed parent");
    }

    private static async Task AssertReadsAsync(
        string path, string flat, QemuImage image, string driver, string name, string? format = null)
    {
        await using Graph graph = await TestGraph.Opener.OpenAsync(
            TestGraph.ForFile(path, format), TestGraph.ReadOnly);
        Assert.Equal(driver, graph.Root.Driver);
        Assert.True(graph.Nodes.Count > 2, name);
        await ReadComparison.AssertSameContentAsync(graph.Root, flat, image.Islands, Seed, name);
    }
}
