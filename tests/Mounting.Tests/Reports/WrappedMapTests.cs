using ImageMount.Core.Graph;
using ImageMount.Mounting.Reports;

namespace ImageMount.Mounting.Tests.Reports;

/// <summary>Maps of images inside something else.</summary>
public sealed class WrappedMapTests
{
    [SkippableFact]
    public async Task Offsets_are_those_of_the_archive_itself()
    {
        Require.Tool("tar");
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(100_000, 0, 1);
        dir.Write("readme", "text"u8);
        dir.Write("disk.img", content);
        string archive = Pack.Tar(dir.File("a.tar"), dir.Path, ["readme", "disk.img"]);
        byte[] bytes = File.ReadAllBytes(archive);
        await using Graph graph = await TestGraph.OpenAsync(archive);
        long covered = 0;
        await foreach (MapLine line in MapReport.LinesAsync(graph.Root, 0, graph.Root.Length))
        {
            Assert.NotEqual((ExtentFlags)0, line.Extent.Flags & ExtentFlags.HostOffset);
            Assert.Equal("file", line.Extent.HostNode!.Driver);
            TestPattern.AssertEqual(
                content.AsSpan((int)line.Start, (int)line.Extent.Length),
                bytes.AsSpan((int)line.Extent.HostOffset, (int)line.Extent.Length), line.Start, "bytes of the archive");
            covered += line.Extent.Length;
        }

        Assert.Equal(content.Length, covered);
    }

    [Fact]
    public async Task Compressed_bytes_have_no_offset()
    {
        using var dir = new TempDir();
        string path = dir.Write("disk.img.gz", Pack.Gzip(TestPattern.Make(100_000, 0, 1)));
        await using Graph graph = await TestGraph.OpenAsync(path);
        await foreach (MapLine line in MapReport.LinesAsync(graph.Root, 0, graph.Root.Length))
        {
            Assert.Equal(
                ExtentFlags.Compressed, line.Extent.Flags & (ExtentFlags.Compressed | ExtentFlags.HostOffset));
        }
    }
}
