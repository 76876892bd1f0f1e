using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Xz;

/// <summary>Stream headers and footers, and the variable-length integers of the index.</summary>
internal static class XzHeader
{
    /// <summary>The kind of check that a stream header names; null when it is no valid header.</summary>
    public static byte? ReadHeader(ReadOnlySpan<byte> bytes) =>
        bytes.Length >= XzLayout.HeaderSize && bytes.StartsWith(XzLayout.HeaderMagic)
        && bytes[6] == 0 && bytes[7] <= XzLayout.MaxCheck
        && BinaryPrimitives.ReadUInt32LittleEndian(bytes[8..]) == XzStreamDecoder.Crc32(bytes.Slice(6, 2))
            ? bytes[7] : null;

    /// <summary>Check and size of the index that a stream footer names; null when it is no valid footer.</summary>
    public static (byte Check, long IndexSize)? ReadFooter(ReadOnlySpan<byte> bytes) =>
        bytes.Length >= XzLayout.HeaderSize && bytes.Slice(10, 2).SequenceEqual(XzLayout.FooterMagic)
        && bytes[8] == 0 && bytes[9] <= XzLayout.MaxCheck
        && BinaryPrimitives.ReadUInt32LittleEndian(bytes) == XzStreamDecoder.Crc32(bytes.Slice(4, 6))
            ? (bytes[9], (BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]) + 1L) * XzLayout.Alignment) : null;

    /// <summary>A stream header.</summary>
    public static byte[] WriteHeader(byte check)
    {
        byte[] header = [.. XzLayout.HeaderMagic, 0, check, 0, 0, 0, 0];
        BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(8), XzStreamDecoder.Crc32(header.AsSpan(6, 2)));
        return header;
    }

    /// <summary>The index and the footer of a stream that consists of one block.</summary>
    public static byte[] WriteEnd(byte check, long unpaddedSize, long length)
    {
        var index = new List<byte> { 0, 1 };
        WriteInteger(index, unpaddedSize);
        WriteInteger(index, length);
        while (index.Count % XzLayout.Alignment != 0)
        {
            index.Add(0);
        }

        byte[] end = [.. index, .. new byte[4 + XzLayout.HeaderSize]];
        Span<byte> footer = end.AsSpan(index.Count + 4);
        BinaryPrimitives.WriteUInt32LittleEndian(
            end.AsSpan(index.Count), XzStreamDecoder.Crc32(end.AsSpan(0, index.Count)));
        BinaryPrimitives.WriteUInt32LittleEndian(footer[4..], (uint)(((index.Count + 4) / XzLayout.Alignment) - 1));
        footer[9] = check;
        BinaryPrimitives.WriteUInt32LittleEndian(footer, XzStreamDecoder.Crc32(footer.Slice(4, 6)));
        XzLayout.FooterMagic.CopyTo(footer[10..]);
        return end;
    }

    /// <summary>
    /// Reads an integer of 7 bits a byte, least significant first; false when it is malformed or cut off.
    /// </summary>
    public static bool TryReadInteger(ref ReadOnlySpan<byte> bytes, out long value)
    {
        value = 0;
        for (int i = 0; i < Math.Min(bytes.Length, 9); i++)
        {
            value |= (long)(bytes[i] & 0x7f) << (7 * i);
            if ((bytes[i] & 0x80) == 0)
            {
                bool minimal = i == 0 || bytes[i] != 0;
                bytes = bytes[(i + 1)..];
                return minimal;
            }
        }

        return false;
    }

    /// <summary>The other common file of the same tools, which has neither index nor checks.</summary>
    public static BlockException NotXz(ReadOnlySpan<byte> head) => LooksLikeLzma(head)
        ? BlockException.Unsupported(
            "this is an .lzma file (LZMA alone), which has no index to find a place by",
            "Make an .xz file of it: lzma -dc FILE | xz -T0 > FILE.xz")
        : BlockException.Invalid("there is no xz stream header", 0);

    /// <summary>
    /// The header of the LZMA alone format has no magic: properties, the size of the dictionary, the length of the
    /// content; the coder's first byte is always zero.
    /// </summary>
    public static bool LooksLikeLzma(ReadOnlySpan<byte> head)
    {
        if (head.Length < 14 || head[0] >= 225 || head[13] != 0)
        {
            return false;
        }

        uint dictionary = BinaryPrimitives.ReadUInt32LittleEndian(head[1..]);
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(head[5..]);
        uint low = dictionary & (~dictionary + 1);
        bool usual = dictionary >= 4096 && (dictionary == low || dictionary == low * 3 || dictionary == uint.MaxValue);
        return usual && (length == ulong.MaxValue || length < 1UL << 38);
    }

    private static void WriteInteger(List<byte> bytes, long value)
    {
        for (; value >= 0x80; value >>= 7)
        {
            bytes.Add((byte)(value | 0x80));
        }

        bytes.Add((byte)value);
    }
}
