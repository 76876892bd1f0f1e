using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>Bits of sector bitmaps in cached pieces (2.4): bit 0 of byte 0 is the chunk's first sector.</summary>
internal static class VhdxBitmaps
{
    /// <summary>Bits in a cached piece.</summary>
    public const int BitsPerPiece = VhdxLayout.LogSectorSize * 8;

    /// <summary>Sets or clears consecutive bits; within a change of the piece.</summary>
    public static void Fill(TableSlice piece, int first, int count, bool value)
    {
        Span<byte> bytes = piece.Bytes;
        while (count > 0)
        {
            int inByte = first % 8;
            if (inByte == 0 && count >= 8)
            {
                bytes.Slice(first / 8, count / 8).Fill(value ? byte.MaxValue : (byte)0);
                first += count & ~7;
                count &= 7;
                continue;
            }

            int step = Math.Min(8 - inByte, count);
            byte mask = (byte)(((1 << step) - 1) << inByte);
            ref byte at = ref bytes[first / 8];
            at = (byte)(value ? at | mask : at & ~mask);
            first += step;
            count -= step;
        }
    }

    /// <summary>True when consecutive bits are all set.</summary>
    public static bool AreSet(TableSlice piece, int first, int count)
    {
        Span<byte> bytes = piece.Bytes;
        while (count > 0)
        {
            int inByte = first % 8;
            if (inByte == 0 && count >= 8)
            {
                if (bytes.Slice(first / 8, count / 8).ContainsAnyExcept(byte.MaxValue))
                {
                    return false;
                }

                first += count & ~7;
                count &= 7;
                continue;
            }

            int step = Math.Min(8 - inByte, count);
            int mask = ((1 << step) - 1) << inByte;
            if ((bytes[first / 8] & mask) != mask)
            {
                return false;
            }

            first += step;
            count -= step;
        }

        return true;
    }
}
