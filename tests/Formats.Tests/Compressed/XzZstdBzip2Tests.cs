using System.Buffers.Binary;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Compressed;

/// <summary>Files of the other three formats that their tools make only when asked, or not at all.</summary>
public sealed class XzZstdBzip2Tests
{
    [SkippableTheory]
    [InlineData("none")]
    [InlineData("crc32")]
    [InlineData("crc64")]
    [InlineData("sha256")]
    public async Task Xz_streams_with_padding_between_them_and_any_check(string check)
    {
        using var dir = new TempDir();
        byte[] a = PackedFiles.Content(300_000, 1);
        byte[] b = PackedFiles.Content(200_001, 2);
        byte[] file =
        [
            .. Pack.Bytes(a, "xz", ".xz", "-0", $"--check={check}", "--block-size=50000"), .. new byte[8],
            .. Pack.Bytes([], "xz", ".xz"), .. Pack.Bytes(b, "xz", ".xz", "-0"), .. new byte[4],
        ];
        await using Graph graph = await PackedFiles.OpenAsync(dir.Write("a.xz", file), "xz");
        await PackedFiles.AssertReadsAsync(graph, [.. a, .. b], 3);
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.Equal(3L, info.FormatSpecific.Single(fact => fact.Key == "streams").Value);
        BlockException? e = await PackedFiles.FailureAsync(dir.Write("b.xz", [.. file, 0, 0]), "xz", null);
        Assert.Contains("padding", e!.Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Xz_index_that_lies_is_found_out_when_the_block_is_decoded()
    {
        // The index says one byte more, with a right checksum: two varints of two bytes each after the count.
        using var dir = new TempDir();
        byte[] file = Pack.Bytes(PackedFiles.Content(10_000, 1), "xz", ".xz", "-0");
        int size = ((int)BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(file.Length - 8)) + 1) * 4;
        Span<byte> index = file.AsSpan(file.Length - 12 - size, size);
        int length = 2;
        while ((index[length] & 0x80) != 0)
        {
            length++;
        }

        index[length + 1]++;
        BinaryPrimitives.WriteUInt32LittleEndian(
            index[^4..], ImageMount.Interop.XzStreamDecoder.Crc32(index[..^4]));
        string path = dir.Write("a.xz", file);
        foreach (string above in (string[])["4k", "4M"])
        {
            await using Graph graph = await PackedFiles.OpenAsync(path, "xz", ("spool-above", above));
            Assert.Equal(10_001, graph.Root.Length);
            BlockException e = await Assert.ThrowsAsync<BlockException>(
                async () => await PackedFiles.ReadAllAsync(graph));
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        }
    }

    [SkippableFact]
    public async Task Lzma_alone_is_refused_by_name()
    {
        using var dir = new TempDir();
        string path = dir.Write("a.lzma", Pack.Bytes(PackedFiles.Content(10_000, 1), "xz", ".lzma", "--format=lzma"));
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(path));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains(".lzma", e.Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Decoder_that_wants_too_much_memory_is_refused()
    {
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(3 << 20, 1);
        string xz = dir.Write("a.xz", Pack.Bytes(content, "xz", ".xz", "--lzma2=preset=0,dict=64MiB"));
        BlockException? e = await PackedFiles.FailureAsync(xz, "xz", null, ("decoder-memory", "8M"));
        Assert.Equal(BlockErrorKind.LimitExceeded, e!.Kind);
        Assert.Null(await PackedFiles.FailureAsync(xz, "xz", content));
        string zstd = dir.Write("a.zst", Pack.Bytes(content, "zstd", ".zst", "--no-content-size", "--zstd=wlog=24"));
        e = await PackedFiles.FailureAsync(zstd, "zstd", null, ("decoder-memory", "1M"));
        Assert.Equal(BlockErrorKind.LimitExceeded, e!.Kind);
        Assert.Null(await PackedFiles.FailureAsync(zstd, "zstd", content));
    }

    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Zstd_seek_table_is_used(bool withChecksums)
    {
        using var dir = new TempDir();
        byte[] content = PackedFiles.Content(500_000, 1);
        byte[] file = PackedFiles.ZstdSeekable(content, 64 << 10, withChecksums);
        await using Graph graph = await PackedFiles.OpenAsync(dir.Write("a.zst", file), "zstd");
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.Equal("seek table", info.FormatSpecific.Single(fact => fact.Key == "indexed-by").Value);
        await PackedFiles.AssertReadsAsync(graph, content, 2);

        // A table that gives a frame the wrong length.
        file[file.Length - 9 - (withChecksums ? 12 : 8) + 4]++;
        BlockException? e = await PackedFiles.FailureAsync(dir.Write("b.zst", file), "zstd", null);
        Assert.Equal(BlockErrorKind.InvalidData, e!.Kind);
    }

    [SkippableFact]
    public async Task Zstd_frames_without_sizes_and_others_to_skip()
    {
        using var dir = new TempDir();
        byte[] a = PackedFiles.Content(300_000, 1);
        byte[] b = PackedFiles.Content(70_000, 2);
        byte[] skip = [0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        byte[] file =
        [
            .. skip, .. Pack.Bytes(a, "zstd", ".zst", "--no-content-size"), .. skip, .. Pack.Bytes([], "zstd", ".zst"),
            .. Pack.Bytes(b, "zstd", ".zst", "--no-check"), .. skip,
        ];
        string path = dir.Write("a.zst", file);
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Contains(graph.Nodes, node => node.Driver == "zstd");
        await PackedFiles.AssertReadsAsync(graph, [.. a, .. b], 3);
    }

    [SkippableTheory]
    [InlineData("-1")]
    [InlineData("-9")]
    public async Task Bzip2_streams_of_any_level_one_after_the_other(string level)
    {
        using var dir = new TempDir();
        byte[] a = PackedFiles.Content(1_200_000, 1);
        byte[] b = PackedFiles.Content(250_001, 2);
        byte[] file =
        [
            .. Pack.Bytes(a, "bzip2", ".bz2", level), .. Pack.Bytes([], "bzip2", ".bz2"),
            .. Pack.Bytes(b, "bzip2", ".bz2", "-4"), .. new byte[3],
        ];
        await using Graph graph = await PackedFiles.OpenAsync(dir.Write("a.bz2", file), "bzip2");
        await PackedFiles.AssertReadsAsync(graph, [.. a, .. b], 3);
        BlockException? e = await PackedFiles.FailureAsync(dir.Write("b.bz2", [.. file, 9]), "bzip2", null);
        Assert.Equal(BlockErrorKind.InvalidData, e!.Kind);
    }
}
