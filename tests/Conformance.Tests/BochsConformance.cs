using ImageMount.TestSupport.Images;

namespace ImageMount.Conformance.Tests;

/// <summary>Growing Bochs disks of both versions; reading only.</summary>
public abstract class BochsConformanceBase(BochsWriter writer) : ConformanceReading
{
    public override string Driver => "bochs";

    protected override bool IsWritable => false;

    protected override int Unit => writer.ExtentSize;

    protected override OptionMap Create(string rawFile, TempDir dir) => TestGraph.ForFile(
        dir.Write("disk.bochs", writer.Build(File.ReadAllBytes(rawFile))), "bochs");
}

public class BochsConformance() : BochsConformanceBase(new BochsWriter());

public class BochsVersion1Conformance() : BochsConformanceBase(
    new BochsWriter { Version = 1, ExtentSize = 4096, HeaderSize = 1024 });
