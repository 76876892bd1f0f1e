using ImageMount.Core.Graph;
using ImageMount.Interop.Tests.Matrix;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Interop.Tests;

/// <summary>Disks that split(1) cuts; "split" writes them, and cat(1) and qemu put them together again.</summary>
public sealed class SplitTests
{
    [SkippableFact]
    public async Task Cut_disk_reads_and_writes_as_the_whole_one()
    {
        const int Seed = 9017;
        const long Length = (9 << 20) + 333;
        PeerTool.Require();
        using var scratch = new Scratch();
        byte[] content = TestPattern.Make((int)Length, 0, Seed);
        File.WriteAllBytes(scratch["model"], content);
        Qemu.Succeed("split", "-b", "1000003", "-a", "3", "--numeric-suffixes=1", scratch["model"], scratch["disk."]);
        await using (Graph graph = await TestGraph.OpenAsync(scratch["disk.001"], TestGraph.Writable))
        {
            Assert.Equal("split", graph.Root.Driver);
            await ReadComparison.AssertSameContentAsync(graph.Root, scratch["model"], [(0, Length)], Seed, "split");
            using var disk = new ModelDisk(graph.Root, scratch["model"], [(0, Length)], Seed, "split");
            for (int i = 0; i < 150; i++)
            {
                await disk.StepAsync();
            }
        }

        string[] parts = [.. Enumerable.Range(1, 10).Select(i => scratch[$"disk.{i:000}"])];
        byte[] joined = [.. parts.SelectMany(File.ReadAllBytes)];
        Assert.True(joined.AsSpan().SequenceEqual(File.ReadAllBytes(scratch["model"])));
        File.WriteAllBytes(scratch["joined"], joined);
        PeerTool.Img("compare", "-f", "raw", "-F", "raw", scratch["joined"], scratch["model"]);
    }
}
