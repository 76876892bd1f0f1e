using System.Buffers.Binary;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// CRC-32 of zlib, piece by piece: polynomial 0x04C11DB7 reflected, initial value and final xor all ones. Eight bytes a
/// step; runs of zeroes cost the logarithm of their length.
/// </summary>
public struct Crc32
{
    private const uint Polynomial = 0xEDB88320;
    private static readonly uint[] Tables = MakeTables();
    private uint _register;

    /// <summary>Begins with no bytes.</summary>
    public Crc32() => _register = uint.MaxValue;

    /// <summary>The checksum of all bytes so far.</summary>
    public readonly uint Value => ~_register;

    /// <summary>The checksum of the bytes.</summary>
    public static uint Compute(ReadOnlySpan<byte> bytes)
    {
        var crc = new Crc32();
        crc.Append(bytes);
        return crc.Value;
    }

    /// <summary>Goes on with more bytes.</summary>
    public void Append(ReadOnlySpan<byte> bytes)
    {
        ReadOnlySpan<uint> tables = Tables;
        uint crc = _register;
        while (bytes.Length >= 8)
        {
            uint low = BinaryPrimitives.ReadUInt32LittleEndian(bytes) ^ crc;
            uint high = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]);
            crc = tables[0x700 + (int)(low & 0xff)] ^ tables[0x600 + (int)(low >> 8 & 0xff)]
                ^ tables[0x500 + (int)(low >> 16 & 0xff)] ^ tables[0x400 + (int)(low >> 24)]
                ^ tables[0x300 + (int)(high & 0xff)] ^ tables[0x200 + (int)(high >> 8 & 0xff)]
                ^ tables[0x100 + (int)(high >> 16 & 0xff)] ^ tables[(int)(high >> 24)];
            bytes = bytes[8..];
        }

        foreach (byte b in bytes)
        {
            crc = crc >> 8 ^ tables[(int)((crc ^ b) & 0xff)];
        }

        _register = crc;
    }

    /// <summary>Goes on with that many zero bytes.</summary>
    public void AppendZeroes(long count)
    {
        // A zero byte multiplies the register by x^8 in the field, so n of them by x^8 to the n.
        uint power = 1u << (31 - 8);
        for (; count > 0; count >>= 1)
        {
            if ((count & 1) != 0)
            {
                _register = Multiply(_register, power);
            }

            power = Multiply(power, power);
        }
    }

    /// <summary>Product modulo the polynomial; bit 31 is x^0.</summary>
    private static uint Multiply(uint a, uint b)
    {
        uint product = 0;
        for (uint bit = 1u << 31; bit != 0; bit >>= 1)
        {
            if ((a & bit) != 0)
            {
                product ^= b;
            }

            b = (b & 1) != 0 ? b >> 1 ^ Polynomial : b >> 1;
        }

        return product;
    }

    private static uint[] MakeTables()
    {
        var tables = new uint[8 * 256];
        for (uint i = 0; i < 256; i++)
        {
            uint value = i;
            for (int bit = 0; bit < 8; bit++)
            {
                value = (value & 1) != 0 ? value >> 1 ^ Polynomial : value >> 1;
            }

            tables[i] = value;
        }

        for (int i = 256; i < tables.Length; i++)
        {
            uint before = tables[i - 256];
            tables[i] = before >> 8 ^ tables[before & 0xff];
        }

        return tables;
    }
}
