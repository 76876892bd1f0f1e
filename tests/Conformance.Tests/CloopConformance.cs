using ImageMount.TestSupport.Images;

namespace ImageMount.Conformance.Tests;

/// <summary>Compressed loop images; reading only. Disks are whole blocks.</summary>
public class CloopConformance : ConformanceReading
{
    private const int Block = 4096;

    public override string Driver => "cloop";

    protected override bool IsWritable => false;

    protected override int LengthGranularity => Block;

    protected override int Unit => Block;

    protected override OptionMap Create(string rawFile, TempDir dir) => TestGraph.ForFile(
        dir.Write("disk.cloop", CloopWriter.Build(File.ReadAllBytes(rawFile), Block)), "cloop");
}
