using System.Buffers.Binary;

namespace ImageMount.Formats.Tests.Mapped;

/// <summary>Makes zstd frames of raw (stored) blocks, RFC 8878 3.1.1: enough to test a decoder's framing.</summary>
internal static class ZstdFrames
{
    public static byte[] Raw(ReadOnlySpan<byte> plain, bool withContentSize)
    {
        using var frame = new MemoryStream();
        frame.Write([0x28, 0xB5, 0x2F, 0xFD]);
        Span<byte> number = stackalloc byte[4];
        if (withContentSize)
        {
            frame.WriteByte(0b1010_0000); // Single segment, 4-byte content size.
            BinaryPrimitives.WriteInt32LittleEndian(number, plain.Length);
            frame.Write(number);
        }
        else
        {
            frame.WriteByte(0);
            frame.WriteByte(0x58); // Window of 2 MiB.
        }

        do
        {
            int count = Math.Min(plain.Length, 100_000); // A block holds at most 128 KiB.
            bool last = count == plain.Length;
            BinaryPrimitives.WriteInt32LittleEndian(number, count << 3 | (last ? 1 : 0));
            frame.Write(number[..3]);
            frame.Write(plain[..count]);
            plain = plain[count..];
        }
        while (!plain.IsEmpty);

        return frame.ToArray();
    }
}
