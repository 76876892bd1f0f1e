namespace ImageMount.Conformance.Tests;

/// <summary>A folder as a disk: a window on the one file that is in it. The file lies in one piece.</summary>
public class VirtualFatConformance : ConformanceReading
{
    public override string Driver => "vvfat";

    protected override bool IsWritable => false;

    protected override int Unit => 512;

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
        map.SetPath("file.fat-type", "12");
        map.SetPath("file.size", "4M");
        map.SetPath("offset", FindAsync(map.Clone(), content).AsTask().GetAwaiter().GetResult().ToString());
        map.SetPath("size", content.Length.ToString());
        return map;
    }

    internal static async ValueTask<long> FindAsync(OptionMap whole, byte[] content)
    {
        await using Graph graph = await TestGraph.Opener.OpenAsync(whole, TestGraph.ReadOnly);
        byte[] disk = new byte[graph.Root.Length];
        await graph.Root.ReadAsync(0, disk);
        int at = disk.AsSpan().IndexOf(content);
        Assert.True(at > 0, "the file is not on the disk");
        return at;
    }
}
