using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>qcow2 images that grow and shrink: new space reads as zeroes, whatever lay there before, and qemu agrees.</summary>
public sealed class Qcow2ResizeTests
{
    private const int Seed = 9109;

    public static TheoryData<int, int, bool, int, string, string> Variants => new()
    {
        { 512, 16, false, 2, "none", "none" },
        { 512, 1, false, 0, "none", "raw-long" },
        { 4096, 8, false, 1, "none", "qcow2-short" },
        { 65536, 16, false, 1, "none", "none" },
        { 16384, 16, true, 1, "none", "raw-long" },
        { 4096, 64, false, 0, "file", "raw-short" },
        { 4096, 16, false, 0, "raw", "none" },
        { 2 << 20, 16, true, 0, "none", "none" },
    };

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    public async Task Image_grown_and_shrunk_is_sound_for_qemu(
        int clusterSize, int refcountBits, bool extended, int snapshots, string dataFile, string backing)
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        var variant = new Qcow2Variant
        {
            ClusterSize = clusterSize,
            RefcountBits = refcountBits,
            ExtendedL2 = extended,
            Snapshots = snapshots,
            DataFile = dataFile,
            Backing = backing,
            OddSize = true,
        };
        QemuImage image = QemuImages.Qcow2(scratch, variant, Seed);
        string model = QemuImages.Flatten(image, scratch["model"]);
        for (int i = 0; i < snapshots; i++)
        {
            QemuImages.Flatten(image, scratch[$"old{i}"], $"snap-{i}");
        }

        long length = image.Length;
        var random = new Random(Seed);
        await using (Graph graph = await TestGraph.OpenAsync(image.Path, TestGraph.Writable))
        {
            BlockNode disk = graph.Root;
            foreach (long size in Sizes(length, clusterSize, random))
            {
                Assert.True(await disk.TryResizeAsync(size), $"{variant}: cannot be resized to {size}");
                Assert.Equal(size, disk.Length);
                using (FileStream flat = File.OpenWrite(model))
                {
                    flat.SetLength(size); // cut off, or zeroes to the new end
                }

                long island = Math.Min(size, 2L << 20);
                (long, long)[] ends = [(0, island), (size - island, size)];
                await ReadComparison.AssertSameContentAsync(disk, model, ends, Seed, $"{variant}: resized to {size}");
                using var writer = new ModelDisk(disk, model, ends, random.Next(), $"{variant}: resized to {size}");
                for (int i = 0; i < 12; i++)
                {
                    await writer.StepAsync();
                }
            }
        }

        PeerCheck check = PeerCheck.Run(image.Path, "qcow2");
        Assert.True(check.ExitCode == 0, $"{variant}: {check.Text}");
        Qcow2WriteTests.AssertSameFiles(QemuImages.Flatten(image, scratch["after"]), model, $"{variant}");
        for (int i = 0; i < snapshots; i++)
        {
            string now = QemuImages.Flatten(image, scratch[$"now{i}"], $"snap-{i}");
            Qcow2WriteTests.AssertSameFiles(now, scratch[$"old{i}"], $"{variant}: snapshot {i}");
        }
    }

    /// <summary>Up and down, across L2 tables, by less than a cluster and by much; whole sectors, as qemu counts.</summary>
    private static IEnumerable<long> Sizes(long length, int clusterSize, Random random)
    {
        yield return length + 512;
        yield return length + clusterSize * 3L;
        yield return length - 512;
        yield return length + (clusterSize / 8L * clusterSize) + 1536;
        yield return length / 2 & -512;
        yield return (length / 2 & -512) + 512 * random.Next(1, 50);
        yield return length;
        yield return 512 * random.Next(1, 9);
        yield return length + 512 * random.Next(1, 99);
    }
}
