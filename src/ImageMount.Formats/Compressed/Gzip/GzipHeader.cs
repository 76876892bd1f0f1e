using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Gzip;

/// <summary>The header of a gzip member.</summary>
internal sealed class GzipHeader
{
    private GzipHeader(int length, int? bgzfSize, GzipChunkTable? chunks)
    {
        Length = length;
        BgzfSize = bgzfSize;
        Chunks = chunks;
    }

    /// <summary>Bytes of the header.</summary>
    public int Length { get; }

    /// <summary>Bytes of the whole member where a BGZF field says so, else null.</summary>
    public int? BgzfSize { get; }

    /// <summary>Chunks that can be decoded on their own, where dictzip says so, else null.</summary>
    public GzipChunkTable? Chunks { get; }

    /// <summary>
    /// Reads a header. Null: more bytes are needed than there are. A header that is wrong is InvalidData without a
    /// place.
    /// </summary>
    public static GzipHeader? Read(ReadOnlySpan<byte> bytes)
    {
        var reader = new SpanReader(bytes);
        if (!reader.TryRead(out GzipFixedHeader header))
        {
            return null;
        }

        if (header.Magic.Value != GzipLayout.Magic)
        {
            throw BlockException.Invalid(
                "there is no gzip header", null, $"0x{header.Magic.Value:x4}", $"0x{GzipLayout.Magic:x4}");
        }

        if (header.Method != GzipLayout.Deflate || (header.Flags & GzipLayout.ReservedFlags) != 0)
        {
            throw BlockException.Invalid(
                "a gzip header has an unknown method or flag", null,
                $"method {header.Method}, flags 0x{header.Flags:x2}");
        }

        int? bgzfSize = null;
        GzipChunkTable? chunks = null;
        if ((header.Flags & GzipLayout.FlagExtra) != 0)
        {
            if (!reader.TryRead(out Le16 length) || !reader.TryTake(length.Value, out ReadOnlySpan<byte> extra))
            {
                return null;
            }

            ReadExtra(extra, ref bgzfSize, ref chunks);
        }

        if (((header.Flags & GzipLayout.FlagName) != 0 && !TrySkipText(ref reader, bytes))
            || ((header.Flags & GzipLayout.FlagComment) != 0 && !TrySkipText(ref reader, bytes)))
        {
            return null;
        }

        if ((header.Flags & GzipLayout.FlagHeaderCrc) != 0)
        {
            uint expected = InflateStreamDecoder.Crc32(0, bytes[..reader.Position]) & 0xffff;
            if (!reader.TryRead(out Le16 found))
            {
                return null;
            }

            if (found.Value != expected)
            {
                throw BlockException.Invalid(
                    "the checksum of a gzip header is wrong", null, $"0x{found.Value:x4}", $"0x{expected:x4}");
            }
        }

        return new GzipHeader(reader.Position, bgzfSize, chunks);
    }

    private static bool TrySkipText(ref SpanReader reader, ReadOnlySpan<byte> bytes)
    {
        ReadOnlySpan<byte> rest = bytes[reader.Position..];
        int end = rest[..Math.Min(rest.Length, GzipLayout.MaxTextLength + 1)].IndexOf((byte)0);
        if (end < 0 && rest.Length > GzipLayout.MaxTextLength)
        {
            throw BlockException.Limit(
                "a name in a gzip header is too long", GzipLayout.MaxTextLength + 1, GzipLayout.MaxTextLength);
        }

        return end >= 0 && reader.TrySeek(reader.Position + end + 1);
    }

    /// <summary>Subfields: two letters, a length, the content. What does not hold together is not ours.</summary>
    private static void ReadExtra(ReadOnlySpan<byte> extra, ref int? bgzfSize, ref GzipChunkTable? chunks)
    {
        var reader = new SpanReader(extra);
        while (reader.TryTake(2, out ReadOnlySpan<byte> id) && reader.TryRead(out Le16 length)
            && reader.TryTake(length.Value, out ReadOnlySpan<byte> content))
        {
            var field = new SpanReader(content);
            if (id.SequenceEqual("BC"u8) && length.Value == 2 && field.TryRead(out Le16 size))
            {
                bgzfSize = size.Value + 1;
            }
            else if (id.SequenceEqual("RA"u8))
            {
                chunks = GzipChunkTable.Read(content);
            }
        }
    }
}

/// <summary>dictzip's table: the stored lengths of chunks that all have the same length, but for the last.</summary>
/// <param name="ChunkLength">Content of a chunk, bytes.</param>
/// <param name="StoredLengths">Bytes that each chunk takes.</param>
internal sealed record GzipChunkTable(int ChunkLength, ushort[] StoredLengths)
{
    /// <summary>Reads the subfield; null when it is of another version or does not hold together.</summary>
    public static GzipChunkTable? Read(ReadOnlySpan<byte> content)
    {
        var reader = new SpanReader(content);
        if (!reader.TryRead(out Le16 version) || version.Value != 1 || !reader.TryRead(out Le16 length)
            || !reader.TryRead(out Le16 count) || length.Value == 0 || count.Value == 0
            || reader.Remaining < count.Value * 2)
        {
            return null;
        }

        var lengths = new ushort[count.Value];
        for (int i = 0; i < lengths.Length; i++)
        {
            reader.TryRead(out Le16 stored);
            lengths[i] = stored.Value;
        }

        return new GzipChunkTable(length.Value, lengths);
    }
}
