namespace ImageMount.Conformance.Tests;

/// <summary>
/// A folder as a disk that is written: the window is the file that is in it, so that writes, flushes and closing bring
/// the host's file up to date, and what is read after opening again is what the host's file has.
/// </summary>
public class VirtualFatWritingConformance : ConformanceSuite
{
    public override string Driver => "vvfat";

    protected override int Unit => 4096;

    protected override int DiskLength => (9 * 4096) + (5 * 512);

    protected override string? ExpectedRootDriver => "raw";

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string folder = Directory.CreateDirectory(dir.File("folder")).FullName;
        File.Copy(rawFile, Path.Combine(folder, "Disk of the suite.img"));
        byte[] content = File.ReadAllBytes(rawFile);
        var map = new OptionMap();
        map.SetPath("driver", "raw");
        map.SetPath("file.driver", "vvfat");
        map.SetPath("file.dir", folder);
        map.SetPath("file.rw", "on");
        map.SetPath("file.journal-dir", dir.File("journals"));
        map.SetPath("file.journal-memory", "16k");
        map.SetPath("file.fat-type", "12");
        map.SetPath("file.size", "4M");
        map.SetPath("offset", VirtualFatConformance.FindAsync(map.Clone(), content).AsTask().GetAwaiter().GetResult().ToString());
        map.SetPath("size", content.Length.ToString());
        return map;
    }
}
