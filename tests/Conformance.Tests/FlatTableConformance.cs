namespace ImageMount.Conformance.Tests;

/// <summary>Disks of the formats with one allocation table, as qemu-img makes them.</summary>
public abstract class FlatTableConformanceBase(string format, int unit, string options) : ConformanceSuite
{
    public override string Driver => format;

    protected override int Unit => unit;

    protected override int DiskLength => (2 * unit) + (unit / 4) + (5 * 512);

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk." + format);
        string[] more = options.Length == 0 ? [] : ["-o", options];
        Qemu.Img(["convert", "-f", "raw", "-O", format, .. more, rawFile, image]);
        return TestGraph.ForFile(image, format);
    }
}

public class VdiConformance() : FlatTableConformanceBase("vdi", 1 << 20, "");

public class VdiStaticConformance() : FlatTableConformanceBase("vdi", 1 << 20, "static=on");

/// <summary>Past the page cache.</summary>
public class VdiDirectConformance() : FlatTableConformanceBase("vdi", 1 << 20, "")
{
    protected override ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) =>
        base.OpenAsync(image, flags with { Direct = true });
}

public class VpcConformance() : FlatTableConformanceBase("vpc", 2 << 20, "force_size=on");

public class VpcFixedConformance() : FlatTableConformanceBase("vpc", 64 << 10, "subformat=fixed,force_size=on");

/// <summary>An empty child that we make: everything comes from the parent, and each sector is taken over on its own.</summary>
public class VpcChildConformance() : FlatTableConformanceBase("vpc", 2 << 20, "force_size=on")
{
    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        base.Create(rawFile, dir);
        string child = dir.File("child.vpc");
        var options = new OptionMap();
        options.Set("backing_file", "disk.vpc");
        new ImageMaker(TestGraph.Registry).CreateAsync("vpc", child, options, new CreateRequest())
            .AsTask().GetAwaiter().GetResult();
        return TestGraph.ForFile(child, "vpc");
    }
}

public class ParallelsConformance() : FlatTableConformanceBase("parallels", 64 << 10, "cluster_size=64k");
