namespace ImageMount.Conformance.Tests;

/// <summary>Parts of odd sizes, one of them empty.</summary>
public class SplitConformance : ConformanceSuite
{
    public override string Driver => "split";

    protected override int LengthGranularity => 1;

    protected override int Unit => 4096;

    protected override OptionMap Create(string rawFile, TempDir dir)
    {
        byte[] content = File.ReadAllBytes(rawFile);
        int[] ends = [4096, 4096, 5001, content.Length / 2, content.Length - 1, content.Length];
        int from = 0;
        for (int i = 0; i < ends.Length; i++)
        {
            dir.Write($"disk.{i + 1:000}", content.AsSpan(from, ends[i] - from));
            from = ends[i];
        }

        return TestGraph.ForFile(dir.File("disk.001"), "split");
    }
}
