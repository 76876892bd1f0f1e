using System.Security.Cryptography;
using ImageMount.Core.Graph;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Interop.Tests;

/// <summary>Growing Bochs disks: made by bximage and read here; made here and read by qemu-img and bximage.</summary>
public sealed class BochsTests
{
    [SkippableFact]
    public async Task Image_of_the_corpus_reads_as_qemu_read_it()
    {
        using var scratch = new Scratch();
        string path = Corpus.Unpack("empty.bochs", scratch.Folder);
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal("bochs", graph.Root.Driver);
        byte[] content = await DiskReads.AllAsync(graph.Root);
        Assert.Equal(
            "85e614bc2ef17bec493b849dbeea34687ba52d7b1fedc4e5fc3729b0fb059aad",
            Convert.ToHexStringLower(SHA256.HashData(content)));
        await DiskReads.AssertCleanAsync(graph, "corpus");
    }

    [SkippableTheory]
    [InlineData(10)]
    [InlineData(3000)]
    public async Task Empty_disk_of_bximage_reads_as_zeroes(int megabytes)
    {
        using var scratch = new Scratch();
        string path = scratch["disk.bochs"];
        Qemu.Succeed("bximage", "-func=create", $"-hd={megabytes}M", "-imgmode=growing", "-q", path);
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal("bochs", graph.Root.Driver);
        Assert.InRange(graph.Root.Length, (megabytes - 1L) << 20, megabytes * 1L << 20);
        Assert.Equal(graph.Root.Length, (await graph.Root.MapAsync(0, graph.Root.Length)).Length);
        await DiskReads.AssertCleanAsync(graph, "bximage");
        if (PeerTool.HasQemuImg)
        {
            await ReadComparison.AssertSameDescriptionAsync(
                graph.Root, new QemuImage(path, "bochs", graph.Root.Length, []), "bochs");
        }
    }

    [SkippableTheory]
    [InlineData("growing")]
    [InlineData("flat")]
    public async Task Disk_that_bximage_converted_reads_as_it_was(string by)
    {
        using var scratch = new Scratch();

        // bximage rounds a disk up to whole cylinders of 16 heads and 63 sectors.
        byte[] content = Content(16 * 63 * 512 * 9);
        string growing = scratch["disk.bochs"];
        if (by == "growing")
        {
            File.WriteAllBytes(scratch["flat.img"], content);
            Qemu.Succeed(
                "bximage", "-func=convert", "-imgmode=growing", "-q", scratch["flat.img"], growing);
        }
        else
        {
            File.WriteAllBytes(growing, new BochsWriter { ExtentSize = 32 << 10 }.Build(content));
            Qemu.Succeed("bximage", "-func=convert", "-imgmode=flat", "-q", growing, scratch["flat.img"]);
            TestPattern.AssertEqual(content, File.ReadAllBytes(scratch["flat.img"]), 0, "bximage");
        }

        await using Graph graph = await TestGraph.OpenAsync(growing);
        await DiskReads.AssertAsync(graph.Root, content, by);
        await DiskReads.AssertCleanAsync(graph, by);
    }

    [SkippableTheory]
    [InlineData(2, 16 << 10)]
    [InlineData(1, 4096)]
    [InlineData(2, 1 << 20)]
    public async Task Disk_made_here_reads_the_same_in_qemu(int version, int extent)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        byte[] content = Content(5_000 * 512);
        File.WriteAllBytes(scratch["disk"], new BochsWriter { Version = version, ExtentSize = extent }.Build(content));
        PeerTool.Img("convert", "-f", "bochs", "-O", "raw", scratch["disk"], scratch["flat"]);
        TestPattern.AssertEqual(content, File.ReadAllBytes(scratch["flat"]), 0, "qemu-img");
        await using Graph graph = await TestGraph.OpenAsync(scratch["disk"]);
        await ReadComparison.AssertSameContentAsync(graph.Root, scratch["flat"], [(0, content.Length)], extent, "bochs");
    }

    private static byte[] Content(int length)
    {
        byte[] content = TestPattern.Make(length, 0, length);
        for (int at = 0; at + 50_000 < length; at += 70_000)
        {
            content.AsSpan(at, 48_000).Clear();
        }

        return content;
    }
}
