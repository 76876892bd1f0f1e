using System.Buffers.Binary;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.Codecs;

/// <summary>
/// LZFSE (Apple; the layouts are those of the reference implementation's headers): a row of blocks, each with a magic
/// that says how it is stored, up to an end mark. There is no checksum, so every number is held against every other.
/// </summary>
public sealed class LzfseDecoder : IUnitDecoder
{
    private const uint EndOfStream = 0x24787662; // "bvx$"
    private const uint Plain = 0x2d787662; // "bvx-"
    private const uint Fse = 0x31787662; // "bvx1", tables as they are
    private const uint FsePacked = 0x32787662; // "bvx2", tables packed
    private const uint Lzvn = 0x6e787662; // "bvxn"

    private LzfseDecoder()
    {
    }

    /// <summary>The decoder; stateless.</summary>
    public static LzfseDecoder Instance { get; } = new();

    /// <inheritdoc/>
    public void Decode(ReadOnlySpan<byte> stored, Span<byte> decoded)
    {
        int at = 0;
        int filled = 0;
        while (true)
        {
            uint magic = ReadUInt32(stored, at, filled, decoded.Length);
            if (magic == EndOfStream)
            {
                break;
            }

            // Every kind of block has the length of its output after the magic; it bounds what the block may write.
            uint length = ReadUInt32(stored, at + 4, filled, decoded.Length);
            if (length > decoded.Length - filled)
            {
                throw Damaged("it is longer than a unit", filled + (long)length, decoded.Length);
            }

            int end = filled + (int)length;
            at += magic switch
            {
                Plain => CopyPlain(stored[at..], decoded[filled..end]),
                Lzvn => LzvnBlock.Decode(stored[at..], decoded[..end], filled),
                Fse or FsePacked => LzfseBlock.Decode(stored, at, magic == FsePacked, decoded[..end], filled),
                _ => throw Damaged($"unknown block 0x{magic:x8}", filled, decoded.Length),
            };
            filled = end;
        }

        if (filled < decoded.Length)
        {
            throw Damaged("it ends too early", filled, decoded.Length);
        }
    }

    /// <summary>What is wrong with a unit.</summary>
    internal static BlockException Damaged(string how, long filled, long expected) => BlockException.Invalid(
        $"an LZFSE unit is damaged ({how})", null, $"{filled} bytes", $"{expected} bytes");

    private static uint ReadUInt32(ReadOnlySpan<byte> stored, int at, int filled, int expected) =>
        stored.Length - at >= 4
            ? BinaryPrimitives.ReadUInt32LittleEndian(stored[at..])
            : throw Damaged("its end mark is missing", filled, expected);

    private static int CopyPlain(ReadOnlySpan<byte> block, Span<byte> decoded)
    {
        const int HeaderSize = 8;
        if (decoded.Length > block.Length - HeaderSize)
        {
            throw Damaged("a plain block ends too early", block.Length - HeaderSize, decoded.Length);
        }

        block.Slice(HeaderSize, decoded.Length).CopyTo(decoded);
        return HeaderSize + decoded.Length;
    }
}
