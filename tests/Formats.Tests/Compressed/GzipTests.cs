using ImageMount.Interop;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Compressed;

/// <summary>gzip files that tools do not make every day.</summary>
public sealed class GzipTests
{
    private const long FourGiB = 4L << 30;

    [Fact]
    public async Task Members_are_one_content_whatever_their_headers_hold()
    {
        using var dir = new TempDir();
        byte[] a = PackedFiles.Content(300_000, 1);
        byte[] b = PackedFiles.Content(5, 2);
        byte[] c = PackedFiles.Content(200_001, 3);
        string path = dir.Write("a.gz", [
            .. Pack.Gzip(a), .. PackedFiles.GzipWithFullHeader(b), .. PackedFiles.GzipWithFullHeader([0]).AsSpan(),
            .. Pack.Gzip(c, System.IO.Compression.CompressionLevel.NoCompression), .. new byte[1000],
        ]);
        await using Graph graph = await PackedFiles.OpenAsync(path, "gzip", ("checkpoint-distance", "32k"));
        await PackedFiles.AssertReadsAsync(graph, [.. a, .. b, 0, .. c], 4);
    }

    [Fact]
    public async Task What_follows_the_last_member_must_be_zeroes()
    {
        using var dir = new TempDir();
        byte[] member = Pack.Gzip(PackedFiles.Content(100_000, 1));
        BlockException? e = await PackedFiles.FailureAsync(
            dir.Write("a.gz", [.. member, .. new byte[100], 7]), "gzip", null);
        Assert.Equal(BlockErrorKind.InvalidData, e!.Kind);
        Assert.Equal(member.Length + 100, e.Offset);
        e = await PackedFiles.FailureAsync(dir.Write("b.gz", [.. member, .. "garbage!garbage!"u8]), "gzip", null);
        Assert.Equal(member.Length, e!.Offset);
        e = await PackedFiles.FailureAsync(dir.Write("c.gz", [.. member, 0x1f, 0x8b, 8]), "gzip", null);
        Assert.Equal(BlockErrorKind.InvalidData, e!.Kind);
    }

    [Fact]
    public async Task Content_of_more_than_4_GiB_in_one_member()
    {
        // One mebibyte of zeroes over and over, and something at the end: the trailer has its length modulo 4 GiB.
        using var dir = new TempDir();
        byte[] zeroes = new byte[1 << 20];
        byte[] piece = PackedFiles.DeflatePiece(zeroes);
        byte[] last = PackedFiles.Content(100_000, 9);
        uint zeroCrc = InflateStreamDecoder.Crc32(0, zeroes);
        uint crc = 0;
        string path = dir.File("a.gz");
        using (FileStream file = File.Create(path))
        {
            file.Write([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
            for (long at = 0; at < FourGiB; at += zeroes.Length)
            {
                file.Write(piece);
                crc = InflateStreamDecoder.CombineCrc32(crc, zeroCrc, zeroes.Length);
            }

            file.Write(PackedFiles.DeflatePiece(last));
            file.Write([3, 0]);
            crc = InflateStreamDecoder.CombineCrc32(crc, InflateStreamDecoder.Crc32(0, last), last.Length);
            file.Write(PackedFiles.GzipTrailer(crc, FourGiB + last.Length));
        }

        await using Graph graph = await PackedFiles.OpenAsync(path, "gzip");
        Assert.Equal(FourGiB + last.Length, graph.Root.Length);
        BlockExtent extent = await graph.Root.MapAsync(0, graph.Root.Length);
        Assert.True(extent.IsZero && extent.Length >= FourGiB - (2 << 20), $"{extent}");
        var found = new byte[last.Length + 1000];
        await graph.Root.ReadAsync(FourGiB - 1000, found);
        TestPattern.AssertEqual([.. new byte[1000], .. last], found, FourGiB - 1000, "around 4 GiB");
    }

    [Fact]
    public async Task Bgzf_of_more_than_4_GiB_is_indexed_without_decoding_it()
    {
        using var dir = new TempDir();
        byte[] block = Pack.Bgzf(new byte[0xff00])[..^28];
        int count = (int)(FourGiB / 0xff00) + 2;
        byte[] last = PackedFiles.Content(3 * 0xff00, 3);
        string path = dir.File("a.gz");
        using (FileStream file = File.Create(path))
        {
            for (int i = 0; i < count; i++)
            {
                file.Write(block);
            }

            file.Write(Pack.Bgzf(last));
        }

        await using Graph graph = await PackedFiles.OpenAsync(path, "gzip");
        Assert.Equal((count * 0xff00L) + last.Length, graph.Root.Length);
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.Contains(info.FormatSpecific, fact => fact is { Key: "indexed-by", Value: "bgzf" });
        var found = new byte[last.Length];
        await graph.Root.ReadAsync(graph.Root.Length - last.Length, found);
        TestPattern.AssertEqual(last, found, 0, "the end");
    }

    [Fact]
    public async Task Index_that_gets_too_large_is_thinned()
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(6 << 20, 0, 5); // does not compress, and neither do the windows
        string path = dir.Write("a.gz", Pack.Gzip(content));
        await using Graph graph = await PackedFiles.OpenAsync(
            path, "gzip", ("checkpoint-distance", "64k"), ("index-memory", "500k"));
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.InRange((long)info.FormatSpecific.Single(fact => fact.Key == "index-memory").Value, 1, 500 << 10);
        Assert.InRange((long)info.FormatSpecific.Single(fact => fact.Key == "units").Value, 4, 16);
        await PackedFiles.AssertReadsAsync(graph, content, 6);
    }

    [Fact]
    public async Task Table_of_dictzip_is_used_when_it_may_be_believed()
    {
        const int Chunk = 10_000;
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(123_456, 7);
        byte[][] pieces = [.. content.Chunk(Chunk).Select(piece => PackedFiles.DeflatePiece(piece))];
        var file = new List<byte> { 0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255 };
        int fieldLength = 6 + (2 * pieces.Length);
        file.AddRange([(byte)(fieldLength + 4), 0, (byte)'R', (byte)'A', (byte)fieldLength, 0, 1, 0]);
        file.AddRange([Chunk & 0xff, Chunk >> 8, (byte)pieces.Length, 0]);
        foreach (byte[] piece in pieces)
        {
            file.AddRange([(byte)piece.Length, (byte)(piece.Length >> 8)]);
        }

        file.AddRange(pieces.SelectMany(piece => piece));
        file.AddRange([3, 0]);
        file.AddRange(PackedFiles.GzipTrailer(InflateStreamDecoder.Crc32(0, content), content.Length));
        string path = dir.Write("a.dz", [.. file]);
        foreach ((string verify, string how) in ((string, string)[])[("on", "decoding"), ("off", "dictzip")])
        {
            await using Graph graph = await PackedFiles.OpenAsync(path, "gzip", ("verify", verify));
            DeviceInfo info = await graph.Root.DescribeAsync();
            Assert.Equal(how, info.FormatSpecific.Single(fact => fact.Key == "indexed-by").Value);
            await PackedFiles.AssertReadsAsync(graph, content, 8);
        }
    }

    [Fact]
    public async Task Opening_can_be_cancelled_and_tells_how_far_it_is()
    {
        using var dir = new TempDir();
        string path = dir.Write("a.gz", Pack.Gzip(
            TestPattern.Make(40 << 20, 0, 1), System.IO.Compression.CompressionLevel.NoCompression));
        using var cancel = new CancellationTokenSource();
        var seen = new List<OpenProgress>();
        var flags = new OpenFlags { Progress = new Reporter(progress => { seen.Add(progress); cancel.Cancel(); }) };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            async () => await TestGraph.Opener.OpenAsync(path, flags, cancel.Token));
        OpenProgress first = Assert.Single(seen);
        Assert.InRange(first.Done, 1, first.Total - 1);
        Assert.Equal(path, first.Node);
    }

    private sealed class Reporter(Action<OpenProgress> report) : IProgress<OpenProgress>
    {
        public void Report(OpenProgress value) => report(value);
    }
}
