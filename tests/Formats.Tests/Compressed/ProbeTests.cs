using System.Text;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Compressed;

/// <summary>A wrapper hides what it is found in, so bytes that only begin like one must stay what they are.</summary>
public sealed class ProbeTests
{
    public static TheoryData<byte[]> Beginnings =>
    [
        [0x1f, 0x8b], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], [0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3, (byte)'a', 0],
        [0xfd, (byte)'7', (byte)'z', (byte)'X', (byte)'Z', 0, 0, 4],
        [(byte)'B', (byte)'Z', (byte)'h', (byte)'9'],
        [(byte)'B', (byte)'Z', (byte)'h', (byte)'9', 0x31, 0x41, 0x59, 0x26],
        [0x28, 0xb5, 0x2f, 0xfd, 0x08], [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4],
        [0x5d, 0, 0, 0x80, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0],
    ];

    [Theory]
    [MemberData(nameof(Beginnings))]
    public async Task Disk_that_begins_like_a_compressed_file_stays_a_disk(byte[] beginning)
    {
        using var dir = new TempDir();
        for (int seed = 0; seed < 40; seed++)
        {
            byte[] content = TestPattern.Make(8192, 0, seed);
            if (seed == 0)
            {
                content.AsSpan().Clear();
            }

            beginning.CopyTo(content, 0);
            await using Graph graph = await TestGraph.OpenAsync(dir.Write("disk.img", content));
            Assert.True(graph.Root.Driver == "raw" && graph.Nodes.Count == 2, $"seed {seed}: {graph.Nodes[1].Driver}");
        }
    }

    [Fact]
    public async Task Disk_that_begins_like_an_archive_stays_a_disk()
    {
        using var dir = new TempDir();
        var content = new byte[4096];
        Encoding.ASCII.GetBytes("disk.vmdk").CopyTo(content, 0);
        "ustar\000"u8.CopyTo(content.AsSpan(257));
        await using Graph graph = await TestGraph.OpenAsync(dir.Write("disk.img", content));
        Assert.Equal(["file", "raw"], graph.Nodes.Select(node => node.Driver));
    }

    [SkippableTheory]
    [InlineData("gzip")]
    [InlineData("xz")]
    [InlineData("bzip2")]
    [InlineData("zstd")]
    public async Task Raw_shows_the_packed_bytes(string driver)
    {
        using var dir = new TempDir();
        byte[] file = PackedFiles.Make(driver, PackedFiles.Content(50_000, 1));
        await using Graph graph = await PackedFiles.OpenAsync(dir.Write("disk", file), "raw");
        byte[] found = await PackedFiles.ReadAllAsync(graph);
        TestPattern.AssertEqual(file, found, 0, driver);
    }
}
