using System.Security.Cryptography;
using ImageMount.Core.Graph;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Interop.Tests;

/// <summary>cloop: made by cloop-utils and read here; made here and read by cloop-utils and qemu-img.</summary>
public sealed class CloopTests
{
    [SkippableFact]
    public async Task Image_of_the_corpus_reads_as_qemu_read_it()
    {
        using var scratch = new Scratch();
        string path = Corpus.Unpack("simple-pattern.cloop", scratch.Folder);
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal("cloop", graph.Root.Driver);
        byte[] content = await DiskReads.AllAsync(graph.Root);
        Assert.Equal(
            "7c77af2771e0f86b7ec9707374c7416037fedae45cb0e6e27fbdf55688a5dd12",
            Convert.ToHexStringLower(SHA256.HashData(content)));
        await DiskReads.AssertCleanAsync(graph, "corpus");
    }

    [SkippableTheory]
    [InlineData(65536, 3_000_000)]
    [InlineData(4096, 100_000)]
    [InlineData(512, 20_480)]
    public async Task Image_of_cloop_utils_reads_as_it_was(int block, int length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        byte[] content = Content(length, block);
        File.WriteAllBytes(scratch["in"], content);
        Qemu.Succeed("create_compressed_fs", "-q", "-B", $"{block}", scratch["in"], scratch["disk.cloop"]);
        await using Graph graph = await TestGraph.OpenAsync(scratch["disk.cloop"]);
        Assert.Equal("cloop", graph.Root.Driver);
        Assert.InRange(graph.Root.Length, length, length + block - 1);
        byte[] found = await DiskReads.AllAsync(graph.Root);
        TestPattern.AssertEqual(content, found.AsSpan(0, length), 0, "create_compressed_fs");
        PeerTool.Img("convert", "-f", "cloop", "-O", "raw", scratch["disk.cloop"], scratch["flat"]);
        TestPattern.AssertEqual(File.ReadAllBytes(scratch["flat"]), found, 0, "qemu-img");
        await ReadComparison.AssertSameDescriptionAsync(
            graph.Root, new QemuImage(scratch["disk.cloop"], "cloop", found.Length, []), "cloop");
    }

    [SkippableTheory]
    [InlineData(65536, 40)]
    [InlineData(512, 300)]
    public async Task Image_made_here_reads_the_same_in_its_peers(int block, int blocks)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        byte[] content = Content(block * blocks, 7);
        File.WriteAllBytes(scratch["disk.cloop"], CloopWriter.Build(content, block));
        PeerTool.Img("convert", "-f", "cloop", "-O", "raw", scratch["disk.cloop"], scratch["flat"]);
        TestPattern.AssertEqual(content, File.ReadAllBytes(scratch["flat"]), 0, "qemu-img");
        Qemu.Succeed("extract_compressed_fs", scratch["disk.cloop"], scratch["extracted"]);
        TestPattern.AssertEqual(content, File.ReadAllBytes(scratch["extracted"]), 0, "extract_compressed_fs");
        await using Graph graph = await TestGraph.OpenAsync(scratch["disk.cloop"]);
        await DiskReads.AssertAsync(graph.Root, content, "made here");
    }

    private static byte[] Content(int length, int seed)
    {
        byte[] content = TestPattern.Make(length, 0, seed);
        for (int at = 0; at + 9000 < length; at += 30_000)
        {
            content.AsSpan(at, 9000).Fill((byte)at);
        }

        return content;
    }
}
