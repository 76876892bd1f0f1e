namespace ImageMount.Conformance.Tests;

/// <summary>qcow2 with LUKS inside; sectors are numbered by where they are stored.</summary>
public class Qcow2LuksConformance : Qcow2Conformance
{
    protected override string CreateOptions => $"encrypt.format=luks,encrypt.iter-time=10,encrypt.key-secret={LuksImages.SecretId}";

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.qcow2");
        LuksImages.Convert(dir, "raw", rawFile, "qcow2", image, CreateOptions);
        return TestGraph.ForFile(image, "qcow2");
    }

    protected override ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) =>
        base.OpenAsync(image, flags with { Secrets = LuksImages.Secrets() });
}

/// <summary>The older AES; sectors are numbered by where they are in the disk.</summary>
public class Qcow2AesConformance : Qcow2LuksConformance
{
    protected override string CreateOptions =>
        $"encrypt.format=aes,cluster_size=4k,encrypt.key-secret={LuksImages.SecretId}";

    protected override int Unit => 4096;
}
