namespace ImageMount.Conformance.Tests;

/// <summary>Images as qemu-img makes them.</summary>
public class QedConformance : ConformanceSuite
{
    public override string Driver => "qed";

    protected override bool IsResizable => true;

    protected override bool CanShrink => false;

    protected virtual string CreateOptions => "cluster_size=64k";

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.qed");
        Qemu.Img("convert", "-f", "raw", "-O", "qed", "-o", CreateOptions, rawFile, image);
        return TestGraph.ForFile(image, "qed");
    }
}

/// <summary>The smallest clusters, and the smallest tables that QEMU opens.</summary>
public class QedSmallClustersConformance : QedConformance
{
    protected override int Unit => 4096;

    protected override int DiskLength => (19 * 4096) + (5 * 512);

    protected override string CreateOptions => "cluster_size=4k,table_size=2";
}

/// <summary>An empty child: everything comes from, and new clusters are filled from, the parent.</summary>
public class QedChildConformance : QedConformance
{
    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        base.Create(rawFile, dir);
        string child = dir.File("child.qed");
        Qemu.Img("create", "-q", "-f", "qed", "-F", "qed", "-b", dir.File("disk.qed"), child);
        return TestGraph.ForFile(child, "qed");
    }
}
