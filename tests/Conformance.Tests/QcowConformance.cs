namespace ImageMount.Conformance.Tests;

/// <summary>Images as qemu-img makes them.</summary>
public class QcowConformance : ConformanceSuite
{
    public override string Driver => "qcow";

    protected override int Unit => 4096;

    protected override int DiskLength => (19 * 4096) + (5 * 512);

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.qcow");
        Qemu.Img("convert", "-f", "raw", "-O", "qcow", rawFile, image);
        return TestGraph.ForFile(image, "qcow");
    }
}

/// <summary>Compressed clusters, which writing replaces.</summary>
public class QcowCompressedConformance : QcowConformance
{
    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.qcow");
        Qemu.CompressedQcow(rawFile, image);
        return TestGraph.ForFile(image, "qcow");
    }
}

/// <summary>An empty child, whose clusters have 512 bytes.</summary>
public class QcowChildConformance : QcowConformance
{
    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        base.Create(rawFile, dir);
        string child = dir.File("child.qcow");
        Qemu.Img("create", "-q", "-f", "qcow", "-F", "qcow", "-b", dir.File("disk.qcow"), child);
        return TestGraph.ForFile(child, "qcow");
    }
}

/// <summary>AES; sectors are numbered by where they are in the disk.</summary>
public class QcowAesConformance : QcowConformance
{
    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.qcow");
        LuksImages.Convert(
            dir, "raw", rawFile, "qcow", image, $"encrypt.format=aes,encrypt.key-secret={LuksImages.SecretId}");
        return TestGraph.ForFile(image, "qcow");
    }

    protected override ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) =>
        base.OpenAsync(image, flags with { Secrets = LuksImages.Secrets() });
}
