namespace ImageMount.Conformance.Tests;

/// <summary>Disks that qemu-img makes.</summary>
public abstract class VhdxConformanceBase(params string[] options) : ConformanceSuite
{
    public override string Driver => "vhdx";

    protected override bool IsResizable => true;

    protected override int Unit => 1 << 20;

    protected override int DiskLength => (2 << 20) + (5 * 512);

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.vhdx");
        Qemu.Img("convert", "-f", "raw", "-O", "vhdx", "-o", string.Join(',', options), rawFile, image);
        return TestGraph.ForFile(image, "vhdx");
    }
}

public class VhdxDynamicConformance() : VhdxConformanceBase("subformat=dynamic", "block_size=1M");

public class VhdxFixedConformance() : VhdxConformanceBase("subformat=fixed", "block_size=1M", "block_state_zero=off");

/// <summary>An empty child of ours: everything comes from, and sectors are filled from, the parent.</summary>
public class VhdxChildConformance() : VhdxConformanceBase("subformat=dynamic", "block_size=1M")
{
    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        base.Create(rawFile, dir);
        var options = new OptionMap();
        options.Set("backing_file", "disk.vhdx");
        options.Set("block_size", "1M");
        string child = dir.File("child.vhdx");
        new ImageMaker(TestGraph.Registry).CreateAsync("vhdx", child, options, new CreateRequest())
            .AsTask().GetAwaiter().GetResult();
        return TestGraph.ForFile(child, "vhdx");
    }
}
