using System.Buffers.Binary;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>
/// The block for short input in LZFSE streams: byte codes with up to three literals and a match each, whose distance
/// may be that of the match before.
/// </summary>
internal static class LzvnBlock
{
    private const int HeaderSize = 12;
    private const int EndMarkSize = 8;

    /// <summary>Decodes a block.</summary>
    /// <param name="block">Input from the block's header on; may go on after the block.</param>
    /// <param name="output">The stream's output up to where the block must end.</param>
    /// <param name="at">Where in it the block begins.</param>
    /// <returns>Bytes of the block.</returns>
    public static int Decode(ReadOnlySpan<byte> block, Span<byte> output, int at)
    {
        if (block.Length < HeaderSize
            || BinaryPrimitives.ReadUInt32LittleEndian(block[8..]) is var size && size > block.Length - HeaderSize)
        {
            throw Damaged("a block ends too early", at, output.Length);
        }

        ReadOnlySpan<byte> codes = block.Slice(HeaderSize, (int)size);
        int distance = 0;
        int next = 0;
        while (true)
        {
            // At most 3 bytes of code; padded reads keep the cases below simple.
            if (next >= codes.Length)
            {
                throw Damaged("the end mark of a block is missing", at, output.Length);
            }

            int code = codes[next];
            int second = next + 1 < codes.Length ? codes[next + 1] : 0;
            int third = next + 2 < codes.Length ? codes[next + 2] : 0;
            int literals = code >> 6;
            int match = (code >> 3 & 7) + 3;
            int length = 1;
            switch (code)
            {
                case 0x06:
                    return End(codes, next, output, at);
                case 0x0e or 0x16:
                    next++;
                    continue;
                case >= 0xf0:
                    // 11110000 MMMMMMMM, or 1111MMMM: a match with the same distance.
                    length = code == 0xf0 ? 2 : 1;
                    literals = 0;
                    match = code == 0xf0 ? second + 16 : code & 15;
                    break;
                case >= 0xe0:
                    // 11100000 LLLLLLLL, or 1110LLLL: literals only.
                    length = code == 0xe0 ? 2 : 1;
                    literals = code == 0xe0 ? second + 16 : code & 15;
                    match = 0;
                    break;
                case (>= 0x70 and < 0x80) or (>= 0xd0 and < 0xe0) or 0x1e or 0x26 or 0x2e or 0x36 or 0x3e:
                    throw Damaged($"unknown code 0x{code:x2}", at, output.Length);
                case >= 0xa0 and < 0xc0:
                    // 101LLMMM DDDDDDMM DDDDDDDD
                    length = 3;
                    literals = code >> 3 & 3;
                    match = ((code & 7) << 2 | second & 3) + 3;
                    distance = second >> 2 | third << 6;
                    break;
                default:
                    switch (code & 7)
                    {
                        case 7: // LLMMM111 DDDDDDDD DDDDDDDD
                            length = 3;
                            distance = second | third << 8;
                            break;
                        case 6: // LLMMM110: the same distance
                            break;
                        default: // LLMMMDDD DDDDDDDD
                            length = 2;
                            distance = (code & 7) << 8 | second;
                            break;
                    }

                    break;
            }

            if (length + literals >= codes.Length - next)
            {
                throw Damaged("the end mark of a block is missing", at, output.Length);
            }

            if (literals + match > output.Length - at)
            {
                throw Damaged("a block is longer than it says", (long)at + literals + match, output.Length);
            }

            codes.Slice(next + length, literals).CopyTo(output[at..]);
            next += length + literals;
            at += literals;
            if (match > 0)
            {
                if (distance == 0 || distance > at)
                {
                    throw Damaged("it refers to bytes before its start", at, output.Length);
                }

                LzMatch.Copy(output, at, distance, match);
                at += match;
            }
        }
    }

    private static int End(ReadOnlySpan<byte> codes, int next, ReadOnlySpan<byte> output, int at)
    {
        if (at != output.Length || next + EndMarkSize != codes.Length)
        {
            throw Damaged("a block is not as long as it says", at, output.Length);
        }

        return HeaderSize + codes.Length;
    }

    private static BlockException Damaged(string how, long filled, long expected) =>
        LzfseDecoder.Damaged(how, filled, expected);
}
