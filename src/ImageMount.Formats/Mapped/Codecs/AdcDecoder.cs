using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>
/// ADC, the oldest compression of Apple's disk images: runs of literal bytes, and two forms of references to what came
/// before. It has no end mark and no checksum; the unit's length says where it ends.
/// </summary>
public sealed class AdcDecoder : IUnitDecoder
{
    private AdcDecoder()
    {
    }

    /// <summary>The decoder; stateless.</summary>
    public static AdcDecoder Instance { get; } = new();

    /// <inheritdoc/>
    public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded)
    {
        int at = 0;
        int filled = 0;
        while (filled < decoded.Length)
        {
            int left = stored.Length - at;
            int code = left > 0 ? stored[at] : throw Damaged("it ends too early", filled, decoded.Length);
            if (code >= 0x80)
            {
                // 1LLLLLLL: literals.
                int count = (code & 0x7f) + 1;
                Require(count < left, count, filled, decoded.Length);
                stored.Slice(at + 1, count).CopyTo(decoded[filled..]);
                at += count + 1;
                filled += count;
                continue;
            }

            // 01LLLLLL DDDDDDDD DDDDDDDD, or 00LLLLDD DDDDDDDD.
            bool isLong = (code & 0x40) != 0;
            int size = isLong ? 3 : 2;
            int length = isLong ? (code & 0x3f) + 4 : (code >> 2) + 3;
            Require(size <= left, length, filled, decoded.Length);
            int distance = 1 + (isLong ? stored[at + 1] << 8 | stored[at + 2] : (code & 3) << 8 | stored[at + 1]);
            if (distance > filled)
            {
                throw Damaged("it refers to bytes before its start", filled, decoded.Length);
            }

            LzMatch.Copy(decoded, filled, distance, length);
            at += size;
            filled += length;
        }
    }

    private static void Require(bool isThere, int count, int filled, int length)
    {
        if (!isThere)
        {
            throw Damaged("it ends too early", filled, length);
        }

        if (count > length - filled)
        {
            throw Damaged("it is longer than a unit", filled + count, length);
        }
    }

    private static BlockException Damaged(string how, int filled, int expected) => BlockException.Invalid(
        $"an ADC unit is damaged ({how})", null, $"{filled} bytes", $"{expected} bytes");
}
