namespace ImageMount.Conformance.Tests;

/// <summary>The protocol by itself, through the page cache.</summary>
public class FileConformance : ConformanceSuite
{
    public override string Driver => "file";

    protected override bool IsResizable => true;

    protected override int LengthGranularity => 1;

    protected override int Unit => 4096;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.img");
        File.Copy(rawFile, image);
        var map = new OptionMap();
        map.Set("driver", "file");
        map.Set("filename", image);
        return map;
    }
}

/// <summary>
/// The protocol with O_DIRECT: alignment, bounce buffers, and a length that is no multiple of a sector.
/// </summary>
public class FileDirectConformance : FileConformance
{
    protected override int DiskLength => base.DiskLength + 77;

    protected override ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) =>
        base.OpenAsync(image, flags with { Direct = true });
}

/// <summary>Every write durable when it completes.</summary>
public class FileWriteThroughConformance : FileConformance
{
    protected override ValueTask<Graph> OpenAsync(OptionMap image, OpenFlags flags) =>
        base.OpenAsync(image, flags with { WriteThrough = true });
}
