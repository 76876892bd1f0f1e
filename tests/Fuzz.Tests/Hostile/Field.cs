using System.Buffers.Binary;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>A number in an image: where it is, how wide, in which byte order.</summary>
public readonly record struct Field(string Name, long Offset, int Width, bool BigEndian)
{
    public ulong Read(ReadOnlySpan<byte> image)
    {
        ReadOnlySpan<byte> at = image.Slice((int)Offset, Width);
        return (Width, BigEndian) switch
        {
            (1, _) => at[0],
            (2, true) => BinaryPrimitives.ReadUInt16BigEndian(at),
            (2, false) => BinaryPrimitives.ReadUInt16LittleEndian(at),
            (4, true) => BinaryPrimitives.ReadUInt32BigEndian(at),
            (4, false) => BinaryPrimitives.ReadUInt32LittleEndian(at),
            (8, true) => BinaryPrimitives.ReadUInt64BigEndian(at),
            _ => BinaryPrimitives.ReadUInt64LittleEndian(at),
        };
    }

    public void Write(Span<byte> image, ulong value)
    {
        for (int i = 0; i < Width; i++)
        {
            int shift = 8 * (BigEndian ? Width - 1 - i : i);
            image[(int)Offset + i] = (byte)(value >> shift);
        }
    }

    /// <summary>Values that programs get wrong: limits of the type, signs, sizes of the file, neighbours, odd offsets.</summary>
    public IEnumerable<ulong> Extremes(ReadOnlyMemory<byte> image)
    {
        ulong mask = Width == 8 ? ulong.MaxValue : (1UL << Width * 8) - 1;
        ulong now = Read(image.Span);
        ulong sign = 1UL << Width * 8 - 1;
        ulong length = (ulong)image.Length;
        ulong[] values =
        [
            0, 1, 2, 3, 7, mask, mask - 1, sign, sign - 1, sign + 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000,
            0x00ff_ffff_ffff_fe00, 0x7fff_ffff_ffff_fe00, now + 1, now - 1, now + 512, now ^ 1, now << 1, now << 9, now << 20,
            now >> 1, now | sign, now | 1UL << 62 & mask, now | 1, ~now, length, length - 1, length + 512, length & ~0xffffUL,
            length / 512, 512, 4096, 0x10000,
        ];
        foreach (ulong value in values.Select(v => v & mask).Distinct())
        {
            if (value != now)
            {
                yield return value;
            }
        }
    }
}
