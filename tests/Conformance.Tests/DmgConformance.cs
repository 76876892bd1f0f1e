using ImageMount.TestSupport.Images;

namespace ImageMount.Conformance.Tests;

/// <summary>UDIF images made here, by how they are stored; reading only.</summary>
public abstract class DmgConformanceBase(DmgWriter writer) : ConformanceReading
{
    public override string Driver => "dmg";

    protected override bool IsWritable => false;

    protected override OptionMap Create(string rawFile, TempDir dir) => TestGraph.ForFile(
        dir.Write("disk.dmg", writer.Build(File.ReadAllBytes(rawFile))), "dmg");
}

public class DmgConformance() : DmgConformanceBase(new DmgWriter());

public class DmgLzfseConformance() : DmgConformanceBase(new DmgWriter { Units = [DmgUnit.Lzfse], UnitSectors = [128] });

public class DmgResourceForkConformance() : DmgConformanceBase(new DmgWriter { HasResourceFork = true });

/// <summary>Units that begin in one file and end in the next.</summary>
public class DmgSegmentedConformance : ConformanceReading
{
    public override string Driver => "dmg";

    protected override bool IsWritable => false;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        List<byte[]> files = new DmgWriter { Segments = 5 }.BuildSegments(File.ReadAllBytes(rawFile));
        for (int i = 1; i < files.Count; i++)
        {
            dir.Write($"disk.{i + 1:000}.dmgpart", files[i]);
        }

        return TestGraph.ForFile(dir.Write("disk.dmg", files[0]), "dmg");
    }
}
