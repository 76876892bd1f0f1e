using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using ImageMount.Interop;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>
/// Makes the checksums of damaged images right again, so that the damaged number is reached and not only its
/// checksum. What is too damaged to know where its checksum is stays as it is.
/// </summary>
internal static class Seals
{
    private const int Sector = 512;

    /// <summary>Both footers and the header of a VHD: the complement of the sum of their bytes.</summary>
    public static void Vpc(byte[] image)
    {
        if (image.Length < Sector)
        {
            return;
        }

        SumBytes(image.AsSpan(image.Length - Sector), 64);
        if (image.Length >= 1536 && image.AsSpan(Sector).StartsWith("cxsparse"u8))
        {
            SumBytes(image.AsSpan(0, Sector), 64);
            SumBytes(image.AsSpan(Sector, 1024), 36);
        }
    }

    /// <summary>Headers of an archive: the sum of their bytes, where the sum itself counts as blanks.</summary>
    public static void Tar(byte[] image)
    {
        for (int at = 0; at + Sector <= image.Length; at += Sector)
        {
            Span<byte> header = image.AsSpan(at, Sector);
            if (!header[257..].StartsWith("ustar"u8))
            {
                continue;
            }

            Span<byte> checksum = header.Slice(148, 8);
            checksum.Fill((byte)' ');
            int sum = 0;
            foreach (byte b in header)
            {
                sum += b;
            }

            string digits = Convert.ToString(sum, 8).PadLeft(6, '0');
            Encoding.ASCII.GetBytes(digits + "\0 ", checksum);
        }
    }

    /// <summary>Header checksums of gzip members that have one (RFC 1952, FHCRC).</summary>
    public static void Gzip(byte[] image)
    {
        for (int at = 0; at + 18 <= image.Length; at++)
        {
            if (!image.AsSpan(at).StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b, 8]) || (image[at + 3] & 2) == 0)
            {
                continue;
            }

            int end = at + 10;
            if ((image[at + 3] & 4) != 0)
            {
                end += 2 + BinaryPrimitives.ReadUInt16LittleEndian(image.AsSpan(end));
            }

            for (int flag = 8; flag <= 16; flag *= 2)
            {
                if ((image[at + 3] & flag) != 0 && end < image.Length)
                {
                    int length = image.AsSpan(end).IndexOf((byte)0);
                    end = length < 0 ? image.Length : end + length + 1;
                }
            }

            if (end + 2 <= image.Length)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(
                    image.AsSpan(end), (ushort)XzStreamDecoder.Crc32(image.AsSpan(at, end - at)));
            }
        }
    }

    /// <summary>
    /// Stream headers, headers of first blocks, indexes and footers of xz; blocks check their content themselves.
    /// </summary>
    public static void Xz(byte[] image)
    {
        for (int at = 0; at + 24 <= image.Length; at += 4)
        {
            if (image.AsSpan(at).StartsWith((ReadOnlySpan<byte>)[0xfd, (byte)'7', (byte)'z', (byte)'X', (byte)'Z', 0]))
            {
                Crc(image, at + 6, 2, at + 8);
                int size = (image[at + 12] + 1) * 4;
                if (image[at + 12] != 0 && at + 12 + size <= image.Length)
                {
                    Crc(image, at + 12, size - 4, at + 8 + size);
                }
            }
        }

        for (int at = 0; at + 12 <= image.Length; at += 4)
        {
            if (!image.AsSpan(at + 10).StartsWith("YZ"u8))
            {
                continue;
            }

            long index = at - ((BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(at + 4)) + 1L) * 4);
            if (index >= 0 && image[index] == 0)
            {
                Crc(image, (int)index, at - 4 - (int)index, at - 4);
            }

            Crc(image, at + 4, 6, at);
        }
    }

    /// <summary>The MD5 of a Parallels extension, over the rest of its cluster.</summary>
    public static void Parallels(byte[] image)
    {
        if (image.Length < 64 || !image.AsSpan().StartsWith("With"u8))
        {
            return;
        }

        long cluster = BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(28)) * (long)Sector;
        ulong sector = BinaryPrimitives.ReadUInt64LittleEndian(image.AsSpan(56));
        if (sector > 0 && cluster >= 128 && sector < (ulong)(image.Length / Sector)
            && ((long)sector * Sector) + cluster <= image.Length)
        {
            Span<byte> extension = image.AsSpan((int)sector * Sector, (int)cluster);
            MD5.HashData(extension[24..], extension.Slice(8, 16));
        }
    }

    private static void SumBytes(Span<byte> bytes, int checksum)
    {
        bytes.Slice(checksum, 4).Clear();
        uint sum = 0;
        foreach (byte b in bytes)
        {
            sum += b;
        }

        BinaryPrimitives.WriteUInt32BigEndian(bytes[checksum..], ~sum);
    }

    private static void Crc(byte[] image, int start, int count, int checksum) =>
        BinaryPrimitives.WriteUInt32LittleEndian(
            image.AsSpan(checksum), XzStreamDecoder.Crc32(image.AsSpan(start, count)));
}
