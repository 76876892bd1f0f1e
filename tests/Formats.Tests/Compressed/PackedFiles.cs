using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Compressed;

/// <summary>Compressed files for tests, made by their tools or put together by hand.</summary>
internal static class PackedFiles
{
    /// <summary>Tools with their endings.</summary>
    public static readonly (string Driver, string Ending, string[] Arguments)[] Tools =
    [
        ("gzip", ".gz", ["-6"]), ("xz", ".xz", ["-0", "--block-size=150000"]), ("bzip2", ".bz2", ["-1"]),
        ("zstd", ".zst", ["-3"]),
    ];

    /// <summary>Text that compresses, bytes that do not, and zeroes, in pieces of odd lengths.</summary>
    public static byte[] Content(int length, int seed)
    {
        byte[] content = TestPattern.Make(length, 0, seed);
        var random = new Random(seed);
        for (int at = 0; at < length;)
        {
            Span<byte> piece = content.AsSpan(at, Math.Min(random.Next(1, 60_000), length - at));
            switch (random.Next(4))
            {
                case 0:
                    piece.Clear();
                    break;
                case 1:
                    for (int i = 0; i < piece.Length; i++)
                    {
                        piece[i] = (byte)("sector by sector "u8[i % 17] + (i / 1000 % 3));
                    }

                    break;
                case 2:
                    piece.Fill((byte)random.Next(256));
                    break;
                default:
                    break;
            }

            at += piece.Length;
        }

        return content;
    }

    public static byte[] Make(string driver, byte[] content)
    {
        (string _, string ending, string[] arguments) = Tools.Single(tool => tool.Driver == driver);
        return Pack.Bytes(content, driver, ending, arguments);
    }

    public static ValueTask<Graph> OpenAsync(string path, string driver, params (string Key, string Value)[] options)
    {
        OptionMap map = TestGraph.ForFile(path, driver);
        foreach ((string key, string value) in options)
        {
            map.Set(key, value);
        }

        return TestGraph.Opener.OpenAsync(map, TestGraph.ReadOnly);
    }

    public static async Task<byte[]> ReadAllAsync(Graph graph)
    {
        var content = new byte[graph.Root.Length];
        await graph.Root.ReadAsync(0, content);
        return content;
    }

    /// <summary>All of it, and pieces at random.</summary>
    public static async Task AssertReadsAsync(Graph graph, byte[] content, int seed)
    {
        Assert.Equal(content.Length, graph.Root.Length);
        var random = new Random(seed);
        for (int i = 0; i < 60; i++)
        {
            int at = random.Next(content.Length);
            var found = new byte[Math.Min(random.Next(1, 100_000), content.Length - at)];
            await graph.Root.ReadAsync(at, found);
            TestPattern.AssertEqual(content.AsSpan(at, found.Length), found, at, $"seed {seed}, read {i}");
        }

        byte[] all = await ReadAllAsync(graph);
        TestPattern.AssertEqual(content, all, 0, $"seed {seed}, all of it");
    }

    /// <summary>What opening and reading all comes to: null, or the failure.</summary>
    public static async Task<BlockException?> FailureAsync(
        string path, string driver, byte[]? expected, params (string Key, string Value)[] options)
    {
        try
        {
            await using Graph graph = await OpenAsync(path, driver, options);
            byte[] found = await ReadAllAsync(graph);
            if (expected is not null)
            {
                TestPattern.AssertEqual(expected, found, 0, "what was read without an error");
            }

            return null;
        }
        catch (BlockException e)
        {
            Assert.NotEmpty(e.Describe());
            return e;
        }
    }

    /// <summary>A piece of a deflate stream that ends at a byte, and does not end the stream.</summary>
    public static byte[] DeflatePiece(ReadOnlySpan<byte> content)
    {
        var output = new MemoryStream();
        using var deflate = new DeflateStream(output, CompressionLevel.Optimal);
        deflate.Write(content);
        deflate.Flush();
        return output.ToArray();
    }

    public static byte[] GzipTrailer(uint crc, long length)
    {
        var trailer = new byte[8];
        BinaryPrimitives.WriteUInt32LittleEndian(trailer, crc);
        BinaryPrimitives.WriteUInt32LittleEndian(trailer.AsSpan(4), (uint)length);
        return trailer;
    }

    /// <summary>A gzip file with everything that a header can have.</summary>
    public static byte[] GzipWithFullHeader(byte[] content)
    {
        byte[] plain = Pack.Gzip(content);
        byte[] header =
        [
            0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 1, 2, 3, 4, 2, 3, 6, 0, (byte)'X', (byte)'Y', 2, 0, 7, 7,
            .. Encoding.Latin1.GetBytes("disk.img\0a comment\0"),
        ];
        uint crc = ImageMount.Interop.InflateStreamDecoder.Crc32(0, header);
        return [.. header, (byte)crc, (byte)(crc >> 8), .. plain.AsSpan(10)];
    }

    /// <summary>Frames of zstd's seekable format: any frames, and a table of them in a skippable frame.</summary>
    public static byte[] ZstdSeekable(byte[] content, int frameSize, bool withChecksums)
    {
        var frames = new MemoryStream();
        var table = new MemoryStream();
        int count = 0;
        foreach (byte[] piece in content.Chunk(frameSize))
        {
            byte[] frame = Make("zstd", piece);
            frames.Write(frame);
            Write32(table, (uint)frame.Length);
            Write32(table, (uint)piece.Length);
            if (withChecksums)
            {
                Write32(table, 0x12345678);
            }

            count++;
        }

        Write32(frames, 0x184d2a5e);
        Write32(frames, (uint)table.Length + 9);
        frames.Write(table.ToArray());
        Write32(frames, (uint)count);
        frames.WriteByte(withChecksums ? (byte)0x80 : (byte)0);
        Write32(frames, 0x8f92eab1);
        return frames.ToArray();
    }

    private static void Write32(MemoryStream stream, uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        stream.Write(bytes);
    }
}
