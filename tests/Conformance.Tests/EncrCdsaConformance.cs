using System.Text;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport.Images;

namespace ImageMount.Conformance.Tests;

/// <summary>Encrypted images made here; what is inside is a plain disk.</summary>
public abstract class EncrCdsaConformanceBase(EncrCdsaWriter writer) : ConformanceReading
{
    public override string Driver => "encrcdsa";

    protected override bool IsWritable => false;

    protected override string? ExpectedRootDriver => null;

    protected override OptionMap Create(string rawFile, TempDir dir) => TestGraph.ForFile(
        dir.Write("disk.dmg", writer.Build(File.ReadAllBytes(rawFile))), "encrcdsa");

    protected override ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) => base.OpenAsync(
        image, flags with { Secrets = new SecretStore { Default = new Secret(Encoding.UTF8.GetBytes(writer.Passphrase)) } });
}

public class EncrCdsaConformance() : EncrCdsaConformanceBase(new EncrCdsaWriter());

public class EncrCdsaLargeChunkConformance() : EncrCdsaConformanceBase(
    new EncrCdsaWriter { KeyBits = 256, ChunkSize = 4096, HasWholeChunks = false });
