namespace ImageMount.Conformance.Tests;

/// <summary>A filter over a raw image.</summary>
public abstract class FilterConformance : ConformanceSuite
{
    protected override int LengthGranularity => 1;

    protected override int Unit => 4096;

    protected virtual OptionMap CreateBelow(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.img");
        File.Copy(rawFile, image);
        return TestGraph.ForFile(image, "raw");
    }

    protected override OptionMap Create(string rawFile, TempDir dir) =>
        SourceParser.Wrap(CreateBelow(rawFile, dir), Driver);
}

public class WindowConformance : FilterConformance
{
    private const int Before = 4096 + 512;

    public override string Driver => "window";

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        byte[] content = File.ReadAllBytes(rawFile);
        string framed = dir.Write("framed.img", [.. new byte[Before], .. content, .. new byte[999]]);
        OptionMap map = SourceParser.Wrap(TestGraph.ForFile(framed, "raw"), "window");
        map.Set("offset", $"{Before}");
        map.Set("size", $"{content.Length}");
        return map;
    }
}

public class OverlayConformance : FilterConformance
{
    public override string Driver => "overlay";

    protected override bool IsPersistent => false;

    protected override bool IsResizable => true;

    protected override int Unit => 64 << 10;

    [Fact]
    public async Task Parent_stays_as_it_is()
    {
        await using Fixture f = await StartAsync();
        string image = f.Dir.File("disk.img");
        byte[] before = File.ReadAllBytes(image);
        await f.Disk.WriteAsync(3, TestPattern.Make(100_000, 3, 8));
        await f.Disk.ZeroAsync(120_000, 50_000);
        await f.Disk.DiscardAsync(0, 4096);
        await f.Disk.FlushAsync();
        await f.Graph.CloseAsync();
        Assert.True(before.AsSpan().SequenceEqual(File.ReadAllBytes(image)));
    }
}

/// <summary>Everything goes to the temporary file.</summary>
public class OverlaySpilledConformance : OverlayConformance
{
    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        OptionMap map = base.Create(rawFile, dir);
        map.Set("memory", "0");
        map.Set("directory", dir.Path);
        return map;
    }
}

public class FaultConformance : FilterConformance
{
    public override string Driver => "fault";

    protected override bool IsResizable => true;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        // A rule that never comes to its turn: the filter must be invisible.
        OptionMap map = base.Create(rawFile, dir);
        map.Set("after", $"{long.MaxValue}");
        return map;
    }
}

public class DelayConformance : FilterConformance
{
    public override string Driver => "delay";

    protected override bool IsResizable => true;
}
