using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Images;

namespace ImageMount.Interop.Tests;

/// <summary>
/// UDIF: images that macOS made, proved by their own checksums and by whoever else reads them; images made here, read by
/// qemu-img and dmg2img.
/// </summary>
public sealed class DmgTests
{
    private const int Seed = 31337;

    [SkippableTheory]
    [InlineData("simple-dmg.dmg", "20647e0a98a830a6a250b91e0e6d7200a872caea07b87a3c19611f3dd031c9df", true)]
    [InlineData("hfsplus_zlib.dmg", "d3fc84894c6a387275cd71087096268873031221db7fd29647de4ddad88316ad", true)]
    [InlineData("hfsplus_adc.dmg", null, true)]
    [InlineData("hfsplus_bzip2.dmg", null, true)]
    [InlineData("hfsplus_lzfse.dmg", null, false)]
    [InlineData("hfsplus_lzma.dmg", null, false)]
    public async Task Image_of_macos_is_proved_by_its_checksums(string name, string? sha256, bool hasPeer)
    {
        using var scratch = new Scratch();
        string path = Corpus.Unpack(name, scratch.Folder);
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal("dmg", graph.Root.Driver);
        Assert.Empty(graph.Warnings);
        await DiskReads.AssertCleanAsync(graph, name);
        byte[] content = await DiskReads.AllAsync(graph.Root);
        await DiskReads.AssertAsync(graph.Root, content, name);
        if (sha256 is not null)
        {
            Assert.Equal(sha256, Convert.ToHexStringLower(SHA256.HashData(content)));
        }

        if (hasPeer)
        {
            // One partition: of the whole of these images, dmg2img 1.6.7 loses sectors.
            const int Start = 40 * 512;
            byte[] theirs = ReadByDmg2Img(path, scratch, "-p", "4");
            Assert.InRange(theirs.Length, 1 << 20, content.Length);
            TestPattern.AssertEqual(theirs, content.AsSpan(Start, theirs.Length), Start, $"{name}, dmg2img");
        }
    }

    /// <summary>qemu-img knows zlib and raw without modules, and takes the trailer's offsets seriously.</summary>
    [SkippableTheory]
    [InlineData(1, 0, 0, false, 4001)]
    [InlineData(5, 1024, 4096, false, 777)]
    [InlineData(3, 77, 512, true, 2048)]
    public async Task Image_made_here_reads_the_same_in_qemu(
        int partitions, int junk, int tableOffset, bool fork, int sectors)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        byte[] content = Content(sectors);
        string path = scratch["disk.dmg"];
        File.WriteAllBytes(path, new DmgWriter
        {
            Seed = Seed,
            Units = DmgWriter.PlainUnits,
            Partitions = partitions,
            Junk = junk,
            TableOffset = tableOffset,
            HasResourceFork = fork,
        }.Build(content));
        string flat = scratch["flat"];
        PeerTool.Img("convert", "-f", "dmg", "-O", "raw", path, flat);
        TestPattern.AssertEqual(content, File.ReadAllBytes(flat), 0, "qemu-img");
        await using Graph graph = await TestGraph.OpenAsync(path);
        await ReadComparison.AssertSameContentAsync(graph.Root, flat, [(0, content.Length)], Seed, "dmg");
        await ReadComparison.AssertSameDescriptionAsync(graph.Root, new QemuImage(path, "dmg", content.Length, []), "dmg");
    }

    [SkippableTheory]
    [InlineData(DmgUnit.Zlib)]
    [InlineData(DmgUnit.Bzip2)]
    [InlineData(DmgUnit.Adc)]
    [InlineData(DmgUnit.Raw)]
    public async Task Image_made_here_reads_the_same_in_dmg2img(DmgUnit unit)
    {
        using var scratch = new Scratch();
        byte[] content = Content(3000);
        string path = scratch["disk.dmg"];
        byte[] image = new DmgWriter { Seed = Seed, Units = [unit], Junk = 0, TableOffset = 0 }.Build(content);
        File.WriteAllBytes(path, image);
        byte[] theirs = ReadByDmg2Img(path, scratch);
        Assert.True(theirs.Length <= content.Length, $"{theirs.Length} bytes");
        Assert.False(content.AsSpan(theirs.Length).ContainsAnyExcept((byte)0), "the end is missing");
        TestPattern.AssertEqual(theirs, content.AsSpan(0, theirs.Length), 0, $"dmg2img, {unit}");
        await using Graph graph = await TestGraph.OpenAsync(path);
        await DiskReads.AssertAsync(graph.Root, content, unit.ToString());
        await DiskReads.AssertCleanAsync(graph, unit.ToString());
    }

    private static byte[] Content(int sectors)
    {
        byte[] content = TestPattern.Make(sectors * 512, 0, Seed);
        for (int at = 0; at + 65536 < content.Length; at += 3 * 65536)
        {
            content.AsSpan(at, 40_000).Fill((byte)(at >> 16));
            content.AsSpan(at + 49152, 65536 - 49152).Clear();
        }

        return content;
    }

    private static byte[] ReadByDmg2Img(string path, Scratch scratch, params string[] options)
    {
        string flat = scratch["dmg2img.raw"];
        Qemu.Succeed("dmg2img", ["-s", .. options, "-i", path, "-o", flat]);
        return File.ReadAllBytes(flat);
    }
}
