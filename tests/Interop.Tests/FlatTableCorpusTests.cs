using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>
/// Images of formats with one allocation table that the programs made which the formats belong to. They lie outside the
/// repository: IMAGEMOUNT_CORPUS, or ../shared/corpus beside it.
/// </summary>
public sealed class FlatTableCorpusTests
{
    [SkippableTheory]
    [InlineData("parallels-v1", "parallels", 2_097_152, "15faf41ebc93b5f734341cb7a2d909001e3f7306960f9d8bc63894f2a8e5bc45")]
    [InlineData("parallels-v2", "parallels", 2_097_152, "15faf41ebc93b5f734341cb7a2d909001e3f7306960f9d8bc63894f2a8e5bc45")]
    [InlineData("d2v-zerofilled.vhd", "vpc", 263_454_720, "1ba076be94a8a64541c25aae8d5a5f8b0da758c3797af597e03acb431ff8d143")]
    public async Task Content_is_what_an_independent_reader_found(string name, string format, long length, string sha256)
    {
        using var scratch = new Scratch();
        string path = Unpack(name, scratch);
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal(format, graph.Root.Driver);
        Assert.Equal(length, graph.Root.Length);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[1 << 20];
        for (long at = 0; at < length; at += buffer.Length)
        {
            Memory<byte> part = buffer.AsMemory(0, (int)Math.Min(buffer.Length, length - at));
            await graph.Root.ReadAsync(at, part);
            hash.AppendData(part.Span);
        }

        Assert.Equal(sha256, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }

    [SkippableTheory]
    [InlineData("virtualpc-dynamic.vhd", "vpc", 136_363_130_880)]
    [InlineData("hyperv2012r2-dynamic.vhd", "vpc", 136_365_211_648)]
    [InlineData("parallels-with-bitmap", "parallels", 68_719_476_736)]
    public async Task Large_image_reads_as_qemu_reads_it_and_is_sound(string name, string format, long length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string path = Unpack(name, scratch);
        List<PeerMap.Run> map = PeerMap.Read(new QemuImage(path, format, length, []));
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal(format, graph.Root.Driver);
        Assert.Equal(length, graph.Root.Length);
        CheckReport report = await ((ICheckable)graph.Image.Device).CheckAsync(default);
        Assert.True(report is { Corruptions: 0, CheckErrors: 0, Leaks: 0 }, string.Join('\n', report.Problems));
        byte[] stored = File.ReadAllBytes(path);
        foreach (PeerMap.Run run in map)
        {
            if (run is not { Data: true, Offset: { } host })
            {
                BlockExtent extent = await graph.Root.MapAsync(run.Start, run.Length);
                Assert.True(extent.IsZero || run.Data, $"{name}: 0x{run.Start:x} is stored for us and not for qemu");
                continue;
            }

            var found = new byte[run.Length];
            await graph.Root.ReadAsync(run.Start, found);
            TestPattern.AssertEqual(stored.AsSpan((int)host, found.Length), found, run.Start, name);
        }

        if (name.Contains("bitmap", StringComparison.Ordinal))
        {
            Assert.Contains((await graph.Root.DescribeAsync()).FormatSpecific, fact => fact.Key == "dirty-bitmaps");
        }
    }

    [SkippableFact]
    public async Task Bundle_reads_as_qemu_reads_its_image()
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string archive = Unpack("parallels-bundle-expanding.hdd.tar", scratch);
        Require.Tool("tar");
        Qemu.Succeed("tar", "-xf", archive, "-C", scratch.Folder);
        string folder = scratch["expanding.hdd"];
        string image = Directory.GetFiles(folder, "*.hds").Single();
        string flat = QemuImages.Flatten(new QemuImage(image, "parallels", 0, []), scratch["flat"]);
        await using Graph graph = await TestGraph.OpenAsync(Path.Combine(folder, "DiskDescriptor.xml"));
        Assert.Equal(104_857_600, graph.Root.Length);
        await ReadComparison.AssertSameContentAsync(graph.Root, flat, [(0, graph.Root.Length)], 1, "bundle");
        Assert.Empty(graph.Snapshots);
    }

    private static string Unpack(string name, Scratch scratch)
    {
        string packed = Path.Combine(FindCorpus(), name + ".bz2");
        Skip.IfNot(File.Exists(packed), $"the corpus has no {name}.bz2");
        string path = scratch[name];
        File.Copy(packed, path + ".bz2");
        Require.Tool("bunzip2");
        Qemu.Succeed("bunzip2", path + ".bz2");
        return path;
    }

    private static string FindCorpus()
    {
        if (Environment.GetEnvironmentVariable("IMAGEMOUNT_CORPUS") is { Length: > 0 } given)
        {
            Skip.IfNot(Directory.Exists(given), $"IMAGEMOUNT_CORPUS: there is no {given}");
            return given;
        }

        string? at = AppContext.BaseDirectory;
        while (at is not null && !File.Exists(Path.Combine(at, "ImageMount.sln")))
        {
            at = Path.GetDirectoryName(at);
        }

        string corpus = Path.GetFullPath(Path.Combine(at ?? ".", "..", "shared", "corpus"));
        Skip.IfNot(Directory.Exists(corpus), $"the corpus is not there ({corpus}; set IMAGEMOUNT_CORPUS)");
        return corpus;
    }
}
