using ImageMount.Interop.Tests.Peers;
using Xunit.Abstractions;

namespace ImageMount.Interop.Tests.Matrix;

/// <summary>The generators themselves: what they make must be sound by qemu's own word, and of every kind.</summary>
public sealed class GeneratorTests(ITestOutputHelper output)
{
    private const int Seed = 20261;

    [Fact]
    public void Selection_of_pairs_shows_every_value_of_every_option()
    {
        IReadOnlyList<Qcow2Variant> rows = Qcow2Variant.Selection(Seed);
        output.WriteLine($"{rows.Count} combinations");
        Assert.Equal(5, rows.Select(v => v.ClusterSize).Distinct().Count());
        Assert.Equal(7, rows.Select(v => v.RefcountBits).Distinct().Count());
        Assert.Equal(7, rows.Select(v => v.Backing).Distinct().Count());
        Assert.Equal(4, rows.Select(v => v.Preallocation).Distinct().Count());
        Assert.Equal(3, rows.Select(v => v.DataFile).Distinct().Count());
        Assert.Equal(3, rows.Select(v => v.Snapshots).Distinct().Count());
        Assert.Contains(rows, v => v.ExtendedL2 && v.Backing.StartsWith("vmdk", StringComparison.Ordinal));
        Assert.Contains(rows, v => v.RefcountBits == 64 && v.ClusterSize == 512);
    }

    [SkippableFact]
    public void Generated_image_holds_every_kind_of_run()
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        var variant = new Qcow2Variant { ClusterSize = 512, Backing = "raw-short" };
        QemuImage image = QemuImages.Qcow2(scratch, variant, Seed);
        List<PeerMap.Run> map = PeerMap.Read(image);
        Assert.Contains(map, run => run.Data && run.Offset is not null && run.Depth == 0);
        Assert.Contains(map, run => run.Data && run.Offset is null); // compressed
        Assert.Contains(map, run => run.Zero && run.Offset is not null && run.Depth == 0); // preallocated zero
        Assert.Contains(map, run => run.Zero && run.Offset is null && run.Depth == 0);
        Assert.Contains(map, run => run.Depth == 1);
        Assert.Equal(0, PeerTool.TryImg("check", "-f", "qcow2", image.Path).ExitCode);
    }
}
