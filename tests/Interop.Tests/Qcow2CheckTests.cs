using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Formats.Qcow2;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;
using Xunit.Abstractions;

namespace ImageMount.Interop.Tests;

/// <summary>Our check beside qemu-img's: the same numbers on sound and leaky images, the same verdict on damaged ones.</summary>
public sealed class Qcow2CheckTests(ITestOutputHelper output)
{
    private const int Seed = 3003;

    /// <summary>Single damages tried for each image; IMAGEMOUNT_DAMAGES sets another number.</summary>
    private static readonly int Damages =
        int.Parse(Environment.GetEnvironmentVariable("IMAGEMOUNT_DAMAGES") ?? "50", CultureInfo.InvariantCulture);

    [SkippableFact]
    public async Task Check_of_sound_images_gives_qemus_numbers()
    {
        PeerTool.Require();
        int seed = Seed;
        foreach (Qcow2Variant variant in Qcow2Variant.Selection(Seed))
        {
            using var scratch = new Scratch();
            QemuImage image = QemuImages.Qcow2(scratch, variant, ++seed);
            await AssertSameNumbersAsync(image.Path, $"{variant} seed={seed}");
        }
    }

    [SkippableFact]
    public async Task Check_of_leaky_images_gives_qemus_numbers()
    {
        PeerTool.Require();
        foreach (int bits in new[] { 1, 4, 16, 64 })
        {
            using var scratch = new Scratch();
            var variant = new Qcow2Variant { ClusterSize = 4096, RefcountBits = bits, Snapshots = bits > 1 ? 1 : 0 };
            QemuImage image = QemuImages.Qcow2(scratch, variant, Seed + bits);
            byte[] bytes = File.ReadAllBytes(image.Path);
            var damaged = new DamagedImages(bytes, new Random(Seed));
            int leaky = 0;
            for (int i = 0; i < 60; i++)
            {
                (byte[] broken, string what) = damaged.Next();
                File.WriteAllBytes(image.Path, broken);
                PeerCheck peer = PeerCheck.Run(image.Path, "qcow2");
                if (peer is { ExitCode: 3 })
                {
                    leaky++;
                    await AssertSameNumbersAsync(image.Path, $"{variant}: {what}");
                }
            }

            Assert.True(leaky > 0, $"no damage of refcounts={bits} gave a leak");
        }
    }

    [SkippableTheory]
    [InlineData(512, 16, false, 0, "zlib", "1.1")]
    [InlineData(4096, 2, false, 1, "zlib", "1.1")]
    [InlineData(4096, 64, false, 2, "zstd", "1.1")]
    [InlineData(65536, 16, false, 1, "zlib", "0.10")]
    [InlineData(65536, 8, true, 1, "zlib", "1.1")]
    [InlineData(16384, 1, true, 0, "zstd", "1.1")]
    public async Task Check_of_damaged_images_gives_qemus_verdict(
        int clusterSize, int refcountBits, bool extended, int snapshots, string compression, string compat)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        var variant = new Qcow2Variant
        {
            ClusterSize = clusterSize,
            RefcountBits = refcountBits,
            ExtendedL2 = extended,
            Snapshots = snapshots,
            Compression = compression,
            Compat = compat,
        };
        QemuImage image = QemuImages.Qcow2(scratch, variant, Seed);
        byte[] bytes = File.ReadAllBytes(image.Path);
        var damaged = new DamagedImages(bytes, new Random(Seed + clusterSize));
        var failures = new List<string>();
        for (int i = 0; i < Damages; i++)
        {
            (byte[] broken, string what) = damaged.Next();
            File.WriteAllBytes(image.Path, broken);
            PeerCheck peer = PeerCheck.Run(image.Path, "qcow2");
            CheckReport? ours = await TryCheckAsync(image.Path);
            string verdict = ours is null ? "refused" : Verdict(ours);
            string theirs = peer.Total is null ? "refused" : Verdict(peer);
            output.WriteLine($"{verdict,-10} {theirs,-10} {what}");
            if (verdict != theirs && !IsStricter(ours, peer))
            {
                failures.Add($"{what}: we say {verdict}: {ours?.Problems.FirstOrDefault()}; qemu {theirs}: {peer.Text}");
            }
        }

        Assert.True(failures.Count == 0, $"{variant}: {string.Join("\n", failures)}");
    }

    private static async Task AssertSameNumbersAsync(string path, string name)
    {
        PeerCheck peer = PeerCheck.Run(path, "qcow2");
        CheckReport? ours = await TryCheckAsync(path);
        Assert.True(ours is not null, name + ": refused");
        string context = $"{name}\n{string.Join('\n', ours.Problems.Take(10))}\n{peer.Text}";
        Assert.True(ours.Corruptions == peer.Corruptions, $"corruptions {ours.Corruptions}: {context}");
        Assert.True(ours.Leaks == peer.Leaks, $"leaks {ours.Leaks}: {context}");
        Assert.True(ours.CheckErrors == peer.CheckErrors, $"errors {ours.CheckErrors}: {context}");
        Assert.True(ours.TotalClusters == (peer.Total ?? 0), $"total {ours.TotalClusters}: {context}");
        Assert.True(ours.AllocatedClusters == (peer.Allocated ?? 0), $"allocated {ours.AllocatedClusters}: {context}");
        Assert.True(ours.CompressedClusters == (peer.Compressed ?? 0), $"compressed {ours.CompressedClusters}: {context}");
        Assert.True(ours.FragmentedClusters == (peer.Fragmented ?? 0), $"fragmented {ours.FragmentedClusters}: {context}");
        Assert.True(ours.ImageEndOffset == peer.ImageEnd, $"image end {ours.ImageEndOffset}: {context}");
    }

    /// <summary>The report, or null when the image is refused as a whole.</summary>
    private static async Task<CheckReport?> TryCheckAsync(string path)
    {
        await using Graph graph = await TestGraph.OpenOptionsAsync($"driver=file,filename={path}");
        try
        {
            Qcow2Header header = await Qcow2Header.ReadAsync(graph.Root, CancellationToken.None);
            return await Qcow2Check.RunAsync(header, graph.Root, CancellationToken.None);
        }
        catch (BlockException)
        {
            return null;
        }
    }

    private static string Verdict(CheckReport report) =>
        report.Corruptions > 0 ? "corrupt" : report.CheckErrors > 0 ? "error" : report.Leaks > 0 ? "leaks" : "clean";

    private static string Verdict(PeerCheck report) =>
        report.Corruptions > 0 ? "corrupt" : report.CheckErrors > 0 ? "error" : report.Leaks > 0 ? "leaks" : "clean";

    /// <summary>
    /// qemu overlooks bit 0 of an L2 entry where the specification reserves it: version 2, and extended L2 entries. (It
    /// cannot read such a cluster of a version 2 image either.)
    /// </summary>
    private static bool IsStricter(CheckReport? ours, PeerCheck peer) =>
        ours is not null && Verdict(peer) == "clean"
        && ours.Problems.All(problem => problem.Contains("reserved bits set", StringComparison.Ordinal)
            && problem.EndsWith('1'));
}
