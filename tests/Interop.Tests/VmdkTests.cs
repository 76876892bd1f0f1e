using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>Every VMDK subformat that qemu writes: read, mapped, described; written by us and read by qemu; and on.</summary>
public sealed class VmdkTests
{
    private const int Seed = 9009;
    private const long Odd = (20 << 20) + 3 * 512;

    // Beyond one grain table, and for the split formats beyond one extent of 2 GiB.
    private const long Large = (4L << 30) + 7 * 512;

    /// <summary>Those that can be written; streams cannot.</summary>
    public static IEnumerable<object[]> WritableSubformats =>
        Subformats.Cast<object[]>().Where(row => !"streamOptimized".Equals(row[0]));

    public static TheoryData<string, string, long> Subformats => new()
    {
        { "monolithicSparse", "", Odd },
        { "monolithicSparse", ",zeroed_grain=on", Odd },
        { "monolithicSparse", ",compat6=on", Large },
        { "monolithicFlat", "", Odd },
        { "twoGbMaxExtentSparse", "", Odd },
        { "twoGbMaxExtentSparse", ",zeroed_grain=on", Large },
        { "twoGbMaxExtentFlat", "", Odd },
        { "twoGbMaxExtentFlat", "", Large },
    };

    /// <summary>Those, and the streams, which nobody writes in place.</summary>
    public static TheoryData<string, string, long> ReadableSubformats
    {
        get
        {
            TheoryData<string, string, long> all = Subformats;
            all.Add("streamOptimized", "", Odd);
            all.Add("streamOptimized", "", Large);
            return all;
        }
    }

    [SkippableTheory]
    [MemberData(nameof(ReadableSubformats))]
    public async Task Image_of_qemu_reads_as_qemu_reads_it(string subformat, string extra, long length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string name = $"{subformat}{extra} {length}";
        QemuImage image = QemuImages.Vmdk(scratch, subformat, extra, length, Seed);
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        List<PeerMap.Run> map = PeerMap.Read(image);
        await using Graph graph = await TestGraph.OpenAsync(image.Path);
        Assert.Equal("vmdk", graph.Root.Driver);
        await ReadComparison.AssertSameContentAsync(graph.Root, flat, image.Islands, Seed, name);
        await ReadComparison.AssertSameMapAsync(graph.Root, map, flat, name);
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.Equal(length, info.VirtualSize);
        Assert.Contains(info.FormatSpecific, f => f.Key == "create-type" && (string)f.Value == subformat);
        if (graph.Image.Device is ICheckable checkable)
        {
            CheckReport report = await checkable.CheckAsync(CancellationToken.None);
            Assert.True(report is { Corruptions: 0, CheckErrors: 0 }, string.Join('\n', report.Problems.Take(5)));
        }
    }

    [SkippableTheory]
    [MemberData(nameof(WritableSubformats))]
    public async Task Image_written_by_us_is_sound_for_qemu(string subformat, string extra, long length)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string name = $"{subformat}{extra} {length}";
        QemuImage image = QemuImages.Vmdk(scratch, subformat, extra, length, Seed);
        string model = QemuImages.Flatten(image, scratch["model"]);
        await using (Graph graph = await TestGraph.OpenAsync(image.Path, TestGraph.Writable))
        {
            using var disk = new ModelDisk(graph.Root, model, image.Islands, Seed, name);
            for (int i = 0; i < 150; i++)
            {
                await disk.StepAsync();
            }
        }

        AssertSound(image.Path, subformat, name);
        Qcow2WriteTests.AssertSameFiles(QemuImages.Flatten(image, scratch["after"]), model, name);
        PeerTool.Io(image.Path, "vmdk", ["write -q -P 99 3k 200k", "write -q -z 1m 64k"]);
        string flat = QemuImages.Flatten(image, scratch["final"]);
        await using Graph again = await TestGraph.OpenAsync(image.Path);
        await ReadComparison.AssertSameContentAsync(again.Root, flat, image.Islands, Seed, $"{name}, written on by qemu");
    }

    [SkippableTheory]
    [InlineData("monolithicSparse")]
    [InlineData("twoGbMaxExtentSparse")]
    public async Task Child_of_a_parent_reads_and_writes_and_leaves_the_parent_alone(string subformat)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        QemuImage parent = QemuImages.Vmdk(scratch, "monolithicSparse", "", Odd, Seed);
        string path = scratch["child.vmdk"];
        PeerTool.Img("create", "-q", "-f", "vmdk", "-o", $"subformat={subformat}", "-b", parent.Path, "-F", "vmdk", path);
        PeerTool.Io(path, "vmdk", ["write -q -P 1 100k 300k", "write -q -P 2 5m 70k", "write -q -z 2m 128k"]);
        var child = new QemuImage(path, "vmdk", Odd, [(0, Odd)]);
        byte[] before = File.ReadAllBytes(parent.Path);
        string model = QemuImages.Flatten(child, scratch["model"]);
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            await ReadComparison.AssertSameContentAsync(graph.Root, model, child.Islands, Seed, subformat);
            using var disk = new ModelDisk(graph.Root, model, child.Islands, Seed, subformat);
            for (int i = 0; i < 80; i++)
            {
                await disk.StepAsync();
            }
        }

        Assert.Equal(before, File.ReadAllBytes(parent.Path));
        Qcow2WriteTests.AssertSameFiles(QemuImages.Flatten(child, scratch["after"]), model, subformat);
    }

    private static void AssertSound(string path, string subformat, string name)
    {
        PeerCheck check = PeerCheck.Run(path, "vmdk");
        // qemu has nothing to check in a flat extent, and says so with its own exit status.
        bool isFlat = subformat.EndsWith("Flat", StringComparison.Ordinal);
        Assert.True(check.ExitCode == 0 || (isFlat && check.ExitCode == 63), $"{name}: {check.Text}");
    }
}
