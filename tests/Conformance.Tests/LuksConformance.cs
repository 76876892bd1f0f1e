namespace ImageMount.Conformance.Tests;

/// <summary>LUKS1 disks that qemu-img makes, by cipher.</summary>
public abstract class Luks1ConformanceBase(string options) : ConformanceSuite
{
    public override string Driver => "luks";

    protected override bool IsResizable => true;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.luks");
        LuksImages.Convert(dir, "raw", rawFile, "luks", image, $"key-secret={LuksImages.SecretId},iter-time=10,{options}");
        return TestGraph.ForFile(image, "luks");
    }

    protected override ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) =>
        base.OpenAsync(image, flags with { Secrets = LuksImages.Secrets() });
}

public class LuksXtsConformance() : Luks1ConformanceBase("cipher-alg=aes-256,cipher-mode=xts");

public class LuksCbcConformance()
    : Luks1ConformanceBase("cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256");

public class LuksSerpentConformance() : Luks1ConformanceBase("cipher-alg=serpent-256,cipher-mode=xts");

/// <summary>Past the page cache.</summary>
public class LuksDirectConformance() : Luks1ConformanceBase("cipher-alg=aes-256,cipher-mode=xts")
{
    protected override ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) =>
        base.OpenAsync(image, flags with { Direct = true });
}

/// <summary>LUKS2 with sectors of 4096 bytes, made by us.</summary>
public class Luks2Conformance : ConformanceSuite
{
    public override string Driver => "luks";

    protected override bool IsResizable => true;

    protected override int LengthGranularity => 4096;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.luks");
        LuksImages.CreateAsync(
            image, "luks", $"version=2,sector-size=4096,{LuksImages.CheapArgon}", File.ReadAllBytes(rawFile))
            .GetAwaiter().GetResult();
        return TestGraph.ForFile(image, "luks");
    }

    protected override ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) =>
        base.OpenAsync(image, flags with { Secrets = LuksImages.Secrets() });
}
