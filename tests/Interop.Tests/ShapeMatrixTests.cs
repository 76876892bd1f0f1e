using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;
using Xunit.Abstractions;

namespace ImageMount.Interop.Tests;

/// <summary>
/// Every format but qcow2 (which has a matrix of its own), by options × (empty, sparse, full, fragmented) × (whole units, an
/// odd end, large): made by qemu and read by us; made and written by us and read by qemu, whose checker finds it clean.
/// </summary>
public sealed class ShapeMatrixTests(ITestOutputHelper output)
{
    private const int Seed = 1203;

    public static TheoryData<string> Formats => ShapeVariant.Formats;

    [SkippableTheory]
    [MemberData(nameof(Formats))]
    public Task Image_of_qemu_of_every_shape_and_size_reads_the_same(string format) =>
        AllAsync(format, Seed, async (scratch, variant, seed) =>
        {
            QemuImage image = ShapedImages.ByQemu(scratch, variant, seed);
            string flat = scratch["flat"];
            PeerTool.Img(["convert", "-q", .. ShapedImages.Source(scratch, format, image.Path), "-O", "raw", flat]);
            await AssertReadsAsync(image, flat, seed, variant.ToString(), mayLeak: format is "qed" or "vhdx");
        });

    [SkippableTheory]
    [MemberData(nameof(Formats))]
    public Task Image_of_ours_of_every_shape_and_size_reads_the_same_for_qemu(string format) =>
        AllAsync(format, Seed + 1, async (scratch, variant, seed) =>
        {
            string model = scratch["model"];
            QemuImage image = await ShapedImages.ByUsAsync(scratch, variant, model, seed);
            if (format != "luks")
            {
                // 63: the format has nothing that could be checked.
                bool hasCheck = format is "vdi" or "qed" or "vhdx" or "parallels"
                    || variant.Kind.Options.EndsWith("Sparse", StringComparison.Ordinal);
                PeerCheck check = PeerCheck.Run(image.Path, format);
                Assert.True(check.ExitCode == 0 || (check.ExitCode == 63 && !hasCheck), check.Text);
            }

            string flat = scratch["flat"];
            PeerTool.Img(["convert", "-q", .. ShapedImages.Source(scratch, format, image.Path), "-O", "raw", flat]);
            if (variant.IsStream)
            {
                // A stream has whole grains; what is added reads as zeroes.
                PadFile(model, new FileInfo(flat).Length);
            }

            Assert.Equal(new FileInfo(model).Length, new FileInfo(flat).Length);
            Qcow2WriteTests.AssertSameFiles(flat, model, "content by qemu");
            await AssertReadsAsync(image, model, seed, variant.ToString(), mayLeak: false);
        });

    private static void PadFile(string path, long length)
    {
        using FileStream file = File.OpenWrite(path);
        Assert.InRange(length - file.Length, 0, 65_535);
        file.SetLength(length);
    }

    private static async Task AssertReadsAsync(QemuImage image, string flat, int seed, string name, bool mayLeak)
    {
        await using Graph graph = await LuksImages.OpenAsync(image.Path);
        Assert.Equal(image.Format, graph.Root.Driver);
        Assert.Empty(graph.Warnings);
        await ReadComparison.AssertSameContentAsync(graph.Root, flat, image.Islands, seed, name);
        if (graph.Image.Device is ICheckable checkable)
        {
            CheckReport report = await checkable.CheckAsync(CancellationToken.None);
            Assert.True(
                report is { Corruptions: 0, CheckErrors: 0 } && (mayLeak || report.Leaks == 0),
                string.Join('\n', report.Problems.Take(5)));
        }
    }

    /// <summary>Runs all variants of a format, and tells of all that failed.</summary>
    private async Task AllAsync(string format, int seed, Func<Scratch, ShapeVariant, int, Task> test)
    {
        PeerTool.Require();
        var failures = new List<string>();
        IReadOnlyList<ShapeVariant> variants = ShapeVariant.Selection(format, seed);
        foreach (ShapeVariant variant in variants)
        {
            int own = ++seed;
            using var scratch = new Scratch();
            try
            {
                await test(scratch, variant, own);
            }
            catch (Exception e)
            {
                failures.Add($"{variant} seed={own}: {(e is BlockException b ? b.Describe() : e.Message)}");
                output.WriteLine($"{variant}: {e}");
            }
        }

        output.WriteLine($"{variants.Count} variants");
        Assert.True(failures.Count == 0, $"{failures.Count} failed:\n{string.Join("\n", failures)}");
    }
}
