namespace ImageMount.Conformance.Tests;

/// <summary>Disks that qemu-img makes, by subformat.</summary>
public abstract class VmdkConformanceBase(params string[] options) : ConformanceSuite
{
    public override string Driver => "vmdk";

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.vmdk");
        Qemu.Img("convert", "-f", "raw", "-O", "vmdk", "-o", string.Join(',', options), rawFile, image);
        return TestGraph.ForFile(image, "vmdk");
    }
}

public class VmdkSparseConformance() : VmdkConformanceBase("subformat=monolithicSparse");

public class VmdkZeroedGrainConformance() : VmdkConformanceBase("subformat=monolithicSparse", "zeroed_grain=on");

public class VmdkFlatConformance() : VmdkConformanceBase("subformat=monolithicFlat");

public class VmdkSplitSparseConformance() : VmdkConformanceBase("subformat=twoGbMaxExtentSparse");

public class VmdkSplitFlatConformance() : VmdkConformanceBase("subformat=twoGbMaxExtentFlat");

/// <summary>Compressed grains; reading only.</summary>
public class VmdkStreamConformance : ConformanceReading
{
    public override string Driver => "vmdk";

    protected override bool IsWritable => false;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.vmdk");
        Qemu.Img("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", rawFile, image);
        return TestGraph.ForFile(image, "vmdk");
    }
}

/// <summary>Past the page cache: metadata and odd lengths must be aligned by the node below.</summary>
public class VmdkDirectConformance() : VmdkConformanceBase("subformat=monolithicSparse")
{
    protected override ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) =>
        base.OpenAsync(image, flags with { Direct = true });
}

/// <summary>An empty child: everything comes from, and new grains are filled from, the parent.</summary>
public class VmdkChildConformance() : VmdkConformanceBase("subformat=monolithicSparse")
{
    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        base.Create(rawFile, dir);
        string child = dir.File("child.vmdk");
        Qemu.Img("create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", dir.File("disk.vmdk"), child);
        return TestGraph.ForFile(child, "vmdk");
    }
}

/// <summary>COWD, of ESX up to 6.0, with the grains of one sector that it always has there.</summary>
public class VmdkCowdConformance : ConformanceSuite
{
    public override string Driver => "vmdk";

    protected override int Unit => 512;

    protected override int DiskLength => (2 << 20) + (5 * 512); // Two grain tables.

    protected override OptionMap Create(string rawFile, TempDir dir) =>
        TestGraph.ForFile(EsxImages.WriteCowd(dir, "esx", File.ReadAllBytes(rawFile), 5), "vmdk");
}

/// <summary>SESPARSE; reading only.</summary>
public class VmdkSeSparseConformance : ConformanceReading
{
    public override string Driver => "vmdk";

    protected override bool IsWritable => false;

    protected override int Unit => EsxImages.SeSparseGrain;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        byte[] content = File.ReadAllBytes(rawFile);
        dir.Write("x-sesparse.vmdk", EsxImages.SeSparse(content, 6));
        string text = EsxImages.Descriptor("seSparse", $"RW {content.Length / 512} SESPARSE \"x-sesparse.vmdk\"");
        return TestGraph.ForFile(dir.Write("x.vmdk", System.Text.Encoding.ASCII.GetBytes(text)), "vmdk");
    }
}
