namespace ImageMount.Conformance.Tests;

public class RawConformance : ConformanceSuite
{
    public override string Driver => "raw";

    protected override bool IsResizable => true;

    protected override int LengthGranularity => 1;

    protected override int Unit => 4096;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        string image = dir.File("disk.img");
        File.Copy(rawFile, image);
        return TestGraph.ForFile(image, "raw");
    }
}

/// <summary>A disk inside a file, at an offset that is aligned to nothing.</summary>
public class RawRegionConformance : ConformanceSuite
{
    private const int Before = 12_345;
    private const int After = 700;

    public override string Driver => "raw";

    protected override int LengthGranularity => 1;

    protected override int Unit => 4096;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        byte[] content = File.ReadAllBytes(rawFile);
        byte[] framed = [.. TestPattern.Make(Before, 0, 98), .. content, .. TestPattern.Make(After, 0, 99)];
        OptionMap map = TestGraph.ForFile(dir.Write("framed.img", framed), "raw");
        map.Set("offset", $"{Before}");
        map.Set("size", $"{content.Length}");
        return map;
    }

    [Fact]
    public async Task Bytes_around_the_region_are_never_touched()
    {
        await using Fixture f = await StartAsync();
        await f.Disk.WriteAsync(0, new byte[f.Content.Length]);
        await f.Disk.ZeroAsync(0, f.Disk.Length, ZeroFlags.MayUnmap);
        await f.Disk.DiscardAsync(0, f.Disk.Length);
        await f.Graph.CloseAsync();
        byte[] framed = File.ReadAllBytes(f.Dir.File("framed.img"));
        TestPattern.AssertEqual(TestPattern.Make(Before, 0, 98), framed.AsSpan(0, Before), 0, "before the region");
        TestPattern.AssertEqual(TestPattern.Make(After, 0, 99), framed.AsSpan(^After..), 0, "after the region");
    }
}
