using ImageMount.Core.Bits;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Compressed.Zstd;

/// <summary>The header of a frame.</summary>
/// <param name="Size">Bytes of the header.</param>
/// <param name="WindowSize">Memory that decoding needs, bytes.</param>
/// <param name="ContentSize">Bytes when decoded, where the header says so.</param>
/// <param name="HasChecksum">True when a checksum follows the last block.</param>
internal readonly record struct ZstdFrameHeader(int Size, long WindowSize, long? ContentSize, bool HasChecksum)
{
    /// <summary>Reads a header, its magic included. What is wrong with it is a <see cref="BlockException"/>.</summary>
    public static ZstdFrameHeader Read(ReadOnlySpan<byte> bytes)
    {
        var reader = new SpanReader(bytes);
        if (!reader.TryRead(out Le32 magic) || magic.Value != ZstdLayout.FrameMagic
            || !reader.TryRead(out byte descriptor))
        {
            throw BlockException.Invalid("there is no zstd frame header");
        }

        if ((descriptor & ZstdLayout.ReservedBit) != 0)
        {
            throw BlockException.Invalid("a zstd frame header has a reserved bit set", null, $"0x{descriptor:x2}");
        }

        bool single = (descriptor & ZstdLayout.SingleSegmentBit) != 0;
        long window = 0;
        if (!single)
        {
            if (!reader.TryRead(out byte exponent))
            {
                throw Short();
            }

            long power = 1L << (10 + (exponent >> 3));
            window = power + ((power >> 3) * (exponent & 7));
        }

        int dictionarySize = (descriptor & 3) switch { 0 => 0, 1 => 1, 2 => 2, _ => 4 };
        if (!reader.TryTake(dictionarySize, out ReadOnlySpan<byte> dictionary))
        {
            throw Short();
        }

        if (dictionary.ContainsAnyExcept((byte)0))
        {
            throw BlockException.Unsupported("the zstd file was made with a dictionary, which is not at hand");
        }

        long? content = ReadContentSize(ref reader, descriptor >> 6, single);
        return new ZstdFrameHeader(
            reader.Position, single ? content!.Value : window, content, (descriptor & ZstdLayout.ChecksumBit) != 0);
    }

    private static long? ReadContentSize(ref SpanReader reader, int kind, bool single)
    {
        switch (kind)
        {
            case 0 when !single:
                return null;
            case 0 when reader.TryRead(out byte size):
                return size;
            case 1 when reader.TryRead(out Le16 size):
                return size.Value + 256;
            case 2 when reader.TryRead(out Le32 size):
                return size.Value;
            case 3 when reader.TryRead(out Le64 size):
                return size.Value <= long.MaxValue ? (long)size.Value : throw BlockException.Invalid(
                    "a zstd frame is larger than any disk", null, $"{size.Value} bytes");
            default:
                throw Short();
        }
    }

    private static BlockException Short() => BlockException.Invalid("a zstd frame header is cut off");
}
