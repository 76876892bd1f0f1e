using System.Buffers.Binary;
using System.Text;

namespace ImageMount.Formats.Tests.Vpc;

/// <summary>VHDs put together by hand, by Microsoft's specification: what no program at hand makes.</summary>
internal sealed class VpcByHand
{
    public const uint Free = 0xffff_ffff;
    public const int Sector = 512;

    public required int Size { get; init; }

    public uint Type { get; init; } = 3;

    public int BlockSize { get; init; } = 8 << 10;

    public string Creator { get; init; } = "win ";

    /// <summary>Cylinders, heads, sectors a track.</summary>
    public (int Cylinders, int Heads, int Sectors) Geometry { get; init; } = (65535, 16, 255);

    /// <summary>Which block of the disk stands at each place of the file; null for an empty image.</summary>
    public int[]? Order { get; init; }

    /// <summary>Which sectors are marked as stored; null for all.</summary>
    public Func<int, bool>? IsStored { get; init; }

    public Guid UniqueId { get; init; } = new("01020304-0506-0708-090a-0b0c0d0e0f10");

    public Guid ParentId { get; init; }

    public uint ParentTimestamp { get; init; }

    public string ParentName { get; init; } = "";

    /// <summary>Platform code and bytes of the parent locators.</summary>
    public (string Platform, byte[] Path)[] Locators { get; init; } = [];

    public static byte[] Utf16(string path) => Encoding.Unicode.GetBytes(path);

    public byte[] Footer()
    {
        var footer = new byte[Sector];
        Encoding.ASCII.GetBytes("conectix", footer);
        W32(footer, 8, 2);
        W32(footer, 12, 0x0001_0000);
        BinaryPrimitives.WriteInt64BigEndian(footer.AsSpan(16), Type == 2 ? -1 : Sector);
        W32(footer, 24, 1000);
        Encoding.ASCII.GetBytes(Creator, footer.AsSpan(28));
        BinaryPrimitives.WriteInt64BigEndian(footer.AsSpan(40), Size);
        BinaryPrimitives.WriteInt64BigEndian(footer.AsSpan(48), Size);
        BinaryPrimitives.WriteUInt16BigEndian(footer.AsSpan(56), (ushort)Geometry.Cylinders);
        footer[58] = (byte)Geometry.Heads;
        footer[59] = (byte)Geometry.Sectors;
        W32(footer, 60, Type);
        UniqueId.TryWriteBytes(footer.AsSpan(68), bigEndian: true, out _);
        W32(footer, 64, Checksum(footer));
        return footer;
    }

    public byte[] Build(ReadOnlySpan<byte> content = default)
    {
        if (Type == 2)
        {
            return [.. content.Length == 0 ? new byte[Size] : content, .. Footer()];
        }

        int blocks = (Size + BlockSize - 1) / BlockSize;
        int bitmap = ((BlockSize / Sector / 8) + 511) / 512 * 512;
        int[] order = Order ?? [];
        int table = 1536;
        int locators = table + (((blocks * 4) + 511) / 512 * 512);
        int data = locators + (Locators.Length * Sector);
        var image = new byte[data + (order.Length * (bitmap + BlockSize)) + Sector];
        Footer().CopyTo(image, 0);
        Footer().CopyTo(image, image.Length - Sector);
        WriteHeader(image, table, blocks, locators);
        image.AsSpan(table, locators - table).Fill(0xff);
        for (int place = 0; place < order.Length; place++)
        {
            int at = data + (place * (bitmap + BlockSize));
            W32(image, table + (4 * order[place]), (uint)(at / Sector));
            for (int i = 0; i < BlockSize / Sector; i++)
            {
                int sector = (order[place] * (BlockSize / Sector)) + i;
                if (IsStored?.Invoke(sector) ?? true)
                {
                    image[at + (i / 8)] |= (byte)(0x80 >> (i % 8));
                }
            }

            int start = order[place] * BlockSize;
            if (start < content.Length)
            {
                content[start..Math.Min(content.Length, start + BlockSize)].CopyTo(image.AsSpan(at + bitmap));
            }
        }

        return image;
    }

    /// <summary>Checksum of a footer, whose own field counts as zero.</summary>
    public static uint Checksum(ReadOnlySpan<byte> bytes)
    {
        uint sum = 0;
        foreach (byte b in bytes)
        {
            sum += b;
        }

        return ~sum;
    }

    private void WriteHeader(byte[] image, int table, int blocks, int locators)
    {
        Span<byte> header = image.AsSpan(Sector, 1024);
        Encoding.ASCII.GetBytes("cxsparse", header);
        BinaryPrimitives.WriteInt64BigEndian(header[8..], -1);
        BinaryPrimitives.WriteInt64BigEndian(header[16..], table);
        BinaryPrimitives.WriteInt32BigEndian(header[24..], 0x0001_0000);
        BinaryPrimitives.WriteInt32BigEndian(header[28..], blocks);
        BinaryPrimitives.WriteInt32BigEndian(header[32..], BlockSize);
        ParentId.TryWriteBytes(header[40..], bigEndian: true, out _);
        BinaryPrimitives.WriteUInt32BigEndian(header[56..], ParentTimestamp);
        Encoding.BigEndianUnicode.GetBytes(ParentName, header[64..]);
        for (int i = 0; i < Locators.Length; i++)
        {
            Span<byte> entry = header[(576 + (24 * i))..];
            Encoding.ASCII.GetBytes(Locators[i].Platform, entry);
            BinaryPrimitives.WriteInt32BigEndian(entry[4..], Sector);
            BinaryPrimitives.WriteInt32BigEndian(entry[8..], Locators[i].Path.Length);
            BinaryPrimitives.WriteInt64BigEndian(entry[16..], locators + (i * Sector));
            Locators[i].Path.CopyTo(image, locators + (i * Sector));
        }

        BinaryPrimitives.WriteUInt32BigEndian(header[36..], Checksum(header));
    }

    private static void W32(byte[] bytes, int at, uint value) =>
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(at), value);
}
