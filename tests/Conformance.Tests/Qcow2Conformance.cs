namespace ImageMount.Conformance.Tests;

/// <summary>
/// qcow2 images as qemu-img makes them; a class for each layout that changes how tables are read or written.
/// </summary>
public class Qcow2Conformance : ConformanceSuite
{
    public override string Driver => "qcow2";

    protected override bool IsResizable => true;

    protected virtual string CreateOptions => "compat=1.1";

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.qcow2");
        Qemu.Img("convert", "-f", "raw", "-O", "qcow2", "-o", CreateOptions, rawFile, image);
        return TestGraph.ForFile(image, "qcow2");
    }
}

/// <summary>The smallest clusters: tables everywhere.</summary>
public class Qcow2SmallClustersConformance : Qcow2Conformance
{
    protected override int Unit => 512;

    protected override int DiskLength => 150 * 512;

    protected override string CreateOptions => "compat=1.1,cluster_size=512";
}

/// <summary>Version 2 has no zero clusters.</summary>
public class Qcow2Version2Conformance : Qcow2Conformance
{
    protected override string CreateOptions => "compat=0.10";
}

/// <summary>Subclusters.</summary>
public class Qcow2ExtendedL2Conformance : Qcow2Conformance
{
    protected override int Unit => 16 << 10;

    protected override string CreateOptions => "compat=1.1,extended_l2=on,cluster_size=16k";
}
