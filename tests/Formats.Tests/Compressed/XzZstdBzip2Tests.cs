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

    [SkippableTheory]
    [InlineData(0x314159265359UL)]
    [InlineData(0x177245385090UL)]
    public async Task Bzip2_magic_inside_a_block_is_part_of_the_block(ulong magic)
    {
        // Spare selectors of Huffman tables are allowed, and each is some ones and a zero: either magic is such a list.
        using var dir = new TempDir();
        byte[] before = PackedFiles.Content(100_000, 3);
        byte[] content = TestPattern.Make(60_000, 0, 4);
        byte[] packed = Bzip2WithSpareSelectors(Pack.Bytes(content, "bzip2", ".bz2", "-1"), magic);
        string path = dir.Write("a.bz2", [.. Pack.Bytes(before, "bzip2", ".bz2", "-1"), .. packed, .. packed]);
        byte[] all = [.. before, .. content, .. content];
        File.Copy(path, path + ".peer.bz2");
        Qemu.Succeed("bzip2", "-d", path + ".peer.bz2");
        Assert.True(all.AsSpan().SequenceEqual(File.ReadAllBytes(path + ".peer")), "not what bzip2 reads");
        await using Graph graph = await PackedFiles.OpenAsync(path, "bzip2");
        await PackedFiles.AssertReadsAsync(graph, all, 5);
    }

    /// <summary>Puts the bits of a magic, as selectors, behind those of the only block of a stream.</summary>
    private static byte[] Bzip2WithSpareSelectors(byte[] stream, ulong magic)
    {
        List<bool> bits = [.. stream.SelectMany(b => Enumerable.Range(0, 8).Select(i => (b << i & 0x80) != 0))];
        int Number(int at, int count) => bits.GetRange(at, count).Aggregate(0, (n, bit) => (n << 1) | (bit ? 1 : 0));

        // "BZh1", then magic, checksum, randomised, origin: 32 + 48 + 32 + 1 + 24 bits. Then the map of symbols.
        int at = 137;
        int rows = Enumerable.Range(at, 16).Count(bit => bits[bit]);
        at += 16 + (16 * rows);
        int tables = Number(at, 3);
        Assert.InRange(tables, 4, 6); // What the largest of these selectors needs.
        int selectors = Number(at + 3, 15);
        int end = at + 18;
        for (int left = selectors; left > 0; end++)
        {
            left -= bits[end] ? 0 : 1;
        }

        List<bool> spare = [.. Enumerable.Range(0, 48).Select(i => (magic >> (47 - i) & 1) != 0), false];
        int count = selectors + spare.Count(bit => !bit);
        for (int i = 0; i < 15; i++)
        {
            bits[at + 3 + i] = (count >> (14 - i) & 1) != 0;
        }

        // The stream ends with the other magic and a checksum, and is padded to a byte: that has to be done again.
        int length = Enumerable.Range(bits.Count - 7, 8)
            .Single(stop => (Number(stop - 80, 24), Number(stop - 56, 24)) == (0x177245, 0x385090));
        bits.RemoveRange(length, bits.Count - length);
        bits.InsertRange(end, spare);
        var result = new byte[(bits.Count + 7) / 8];
        for (int i = 0; i < bits.Count; i++)
        {
            result[i / 8] |= (byte)(bits[i] ? 0x80 >> (i % 8) : 0);
        }

        return result;
    }
}
