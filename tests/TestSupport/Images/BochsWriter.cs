using System.Buffers.Binary;
using System.Text;

namespace ImageMount.TestSupport.Images;

/// <summary>Makes growing Bochs disks, with extents in disorder and sectors missing inside them.</summary>
public sealed class BochsWriter
{
    /// <summary>1 or 2.</summary>
    public int Version { get; init; } = 2;

    /// <summary>Bytes of an extent.</summary>
    public int ExtentSize { get; init; } = 16 << 10;

    /// <summary>Bytes of the header.</summary>
    public int HeaderSize { get; init; } = 512;

    /// <summary>Third string of the header.</summary>
    public string Subtype { get; init; } = "Growing";

    /// <summary>A disk with this content; zero sectors are not stored.</summary>
    public byte[] Build(byte[] content, int seed = 1)
    {
        int extents = (content.Length + ExtentSize - 1) / ExtentSize;
        int bitmap = (ExtentSize / 512 + 7) / 8;
        int bitmapSpace = (bitmap + 511) / 512 * 512;
        int[] used = [.. Enumerable.Range(0, extents).Where(i => Part(content, i).ContainsAnyExcept((byte)0))];
        new Random(seed).Shuffle(used);
        int catalog = extents + 3;
        int start = HeaderSize + 4 * catalog;
        byte[] file = new byte[start + used.Length * (bitmapSpace + ExtentSize)];
        Encoding.ASCII.GetBytes("Bochs Virtual HD Image", file);
        Encoding.ASCII.GetBytes("Redolog", file.AsSpan(32));
        Encoding.ASCII.GetBytes(Subtype, file.AsSpan(48));
        Put(file, 64, Version == 1 ? 0x10000u : 0x20000, (uint)HeaderSize, (uint)catalog, (uint)bitmap, (uint)ExtentSize);
        BinaryPrimitives.WriteInt64LittleEndian(file.AsSpan(Version == 1 ? 84 : 88), content.Length);
        file.AsSpan(HeaderSize, 4 * catalog).Fill(0xff);
        for (int place = 0; place < used.Length; place++)
        {
            Put(file, HeaderSize + 4 * used[place], (uint)place);
            int at = start + place * (bitmapSpace + ExtentSize);
            ReadOnlySpan<byte> part = Part(content, used[place]);
            file.AsSpan(at + bitmapSpace, ExtentSize).Fill(0x5a); // What is not marked must not be seen.
            for (int sector = 0; sector * 512 < part.Length; sector++)
            {
                ReadOnlySpan<byte> bytes = part[(sector * 512)..Math.Min(part.Length, (sector + 1) * 512)];
                if (bytes.ContainsAnyExcept((byte)0))
                {
                    file[at + sector / 8] |= (byte)(1 << sector % 8);
                    bytes.CopyTo(file.AsSpan(at + bitmapSpace + sector * 512));
                }
            }
        }

        return file;
    }

    private ReadOnlySpan<byte> Part(byte[] content, int extent) =>
        content.AsSpan(extent * ExtentSize, Math.Min(ExtentSize, content.Length - extent * ExtentSize));

    private static void Put(byte[] bytes, int at, params uint[] numbers)
    {
        foreach (uint number in numbers)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(at), number);
            at += 4;
        }
    }
}
