using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;
using Xunit.Abstractions;

namespace ImageMount.Interop.Tests;

/// <summary>qcow2 images that qemu made, over the matrix of options: content, map, description, snapshots.</summary>
public sealed class Qcow2ReadTests(ITestOutputHelper output)
{
    private const int Seed = 4004;

    [SkippableFact]
    public async Task Image_of_every_option_reads_as_qemu_reads_it()
    {
        PeerTool.Require();
        await MatrixRun.AllAsync(Seed, CompareAsync, output);
    }

    private static async Task CompareAsync(Qcow2Variant variant, int seed, string name)
    {
        using var scratch = new Scratch();
        QemuImage image = QemuImages.Qcow2(scratch, variant, seed);
        string flat = QemuImages.Flatten(image, scratch["flat"]);
        await using (Graph graph = await TestGraph.OpenAsync(image.Path))
        {
            Assert.Equal("qcow2", graph.Root.Driver);
            await ReadComparison.AssertSameContentAsync(graph.Root, flat, image.Islands, seed, name);
            await ReadComparison.AssertSameDescriptionAsync(graph.Root, image, name);
            for (int i = 0; i < variant.Snapshots; i++)
            {
                string old = QemuImages.Flatten(image, scratch[$"flat{i}"], $"snap-{i}");
                BlockNode node = await graph.OpenSnapshotAsync($"snap-{i}");
                await ReadComparison.AssertSameContentAsync(node, old, image.Islands, seed, $"{name} snapshot {i}");
            }
        }

        // After closing: our locks would keep qemu out. And qemu asks the host for holes, so nothing may come between.
        List<PeerMap.Run> map = PeerMap.Read(image);
        await using (Graph graph = await TestGraph.OpenAsync(image.Path))
        {
            await ReadComparison.AssertSameMapAsync(graph.Root, map, flat, name);
        }
    }
}
