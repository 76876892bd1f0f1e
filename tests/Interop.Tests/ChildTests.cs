using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>
/// Disks over a parent that we make: qemu and we write them in turns, each reads what the other wrote and what the parent
/// has, and the parent stays as it is. (qcow2's are in the matrix; libvhdi and the hand-made ones see to VHD and VHDX.)
/// </summary>
public sealed class ChildTests
{
    private const int Seed = 4711;
    private const long Length = (5 << 20) + (3 * 512);

    [SkippableTheory]
    [InlineData("vmdk", "subformat=monolithicSparse")]
    [InlineData("vmdk", "subformat=monolithicSparse,zeroed_grain=on")]
    [InlineData("vmdk", "subformat=twoGbMaxExtentSparse")]
    [InlineData("vmdk", "subformat=twoGbMaxExtentSparse,zeroed_grain=on")]
    [InlineData("qed", "backing_fmt=raw,cluster_size=4k,table_size=2")]
    [InlineData("qed", "backing_fmt=raw,cluster_size=64k,table_size=16")]
    [InlineData("qcow", "")]
    public async Task Child_of_ours_is_written_in_turns_by_qemu_and_by_us(string format, string options)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string name = $"{format} {options}";
        string parent = MakeParent(scratch, format);
        byte[] parentBytes = File.ReadAllBytes(parent);
        string path = scratch["child." + format];
        OptionMap map = options.Length > 0 ? OptionSyntax.ParsePairs(options) : new OptionMap();
        map.Set("size", $"{Length}");
        map.Set("backing_file", Path.GetFileName(parent)); // By its bare name: both have to look beside the child.
        await new ImageMaker(TestGraph.Registry).CreateAsync(format, path, map, new CreateRequest());
        var image = new QemuImage(path, format, Length, [(0, Length)]);
        var random = new Random(Seed);
        for (int round = 0; round < 2; round++)
        {
            string what = $"{name}, round {round}";
            if (round > 0 || format == "qed")
            {
                long at = random.NextInt64(Length / 2) / 512 * 512;
                PeerTool.Io(
                    path, format, [$"write -q -P {round} {at} 150k", $"write -q -z {at + (1 << 20)} 256k",
                        $"write -q -P {round + 9} {at + (2 << 20)} 512"]);
            }

            string model = QemuImages.Flatten(image, scratch["model"]);
            await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
            {
                Assert.Equal(format, graph.Root.Driver);
                await ReadComparison.AssertSameContentAsync(graph.Root, model, image.Islands, Seed, what);
                using var disk = new ModelDisk(graph.Root, model, image.Islands, Seed + round, what);
                for (int i = 0; i < 40; i++)
                {
                    await disk.StepAsync();
                }
            }

            Qcow2WriteTests.AssertSameFiles(QemuImages.Flatten(image, scratch["after"]), model, what);
            PeerCheck check = PeerCheck.Run(path, format);
            Assert.True(check.ExitCode == (format == "qcow" ? 63 : 0), $"{what}: {check.Text}");
        }

        Assert.True(parentBytes.AsSpan().SequenceEqual(File.ReadAllBytes(parent)), $"{name}: the parent changed");
    }

    /// <summary>A parent with data and holes: shorter than the disk where the format allows that.</summary>
    private static string MakeParent(Scratch scratch, string format)
    {
        if (format == "vmdk")
        {
            return QemuImages.Vmdk(scratch, "monolithicSparse", ",zeroed_grain=on", Length, Seed).Path;
        }

        byte[] content = TestPattern.Make((int)(Length * 2 / 3) & -512, 0, Seed);
        content.AsSpan(300_000, 1 << 20).Clear();
        string path = scratch["parent.raw"];
        File.WriteAllBytes(path, content);
        return path;
    }
}
