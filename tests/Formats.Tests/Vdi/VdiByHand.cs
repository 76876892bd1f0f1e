using System.Buffers.Binary;
using System.Text;

namespace ImageMount.Formats.Tests.Vdi;

/// <summary>VDIs put together by hand: what no program at hand makes.</summary>
internal sealed class VdiByHand
{
    public const uint Free = 0xffff_ffff;
    public const uint Zero = 0xffff_fffe;

    public required int Size { get; init; }

    public int BlockSize { get; init; } = 8 << 10;

    public int Extra { get; init; }

    public uint Type { get; init; } = 1;

    public uint Version { get; init; } = 0x0001_0001;

    public uint HeaderSize { get; init; } = 400;

    /// <summary>Entries of the table; null for an empty image.</summary>
    public uint[]? Places { get; init; }

    /// <summary>What the header's counter says; null for the right thing.</summary>
    public uint? Count { get; init; }

    public Guid CreateId { get; init; } = new("11111111-2222-3333-4444-555555555555");

    public Guid ModifyId { get; init; } = new("aaaaaaaa-2222-3333-4444-555555555555");

    public Guid LinkId { get; init; }

    public Guid ParentModifyId { get; init; }

    public int Blocks => (Size + BlockSize - 1) / BlockSize;

    /// <summary>The image; stored blocks get what the content has there.</summary>
    public byte[] Build(ReadOnlySpan<byte> content = default)
    {
        uint[] places = Places ?? [.. Enumerable.Repeat(Free, Blocks)];
        bool isOld = Version == 1;
        int table = isOld ? 72 + 348 : 512;
        int data = isOld ? table + (4 * places.Length) : (table + (4 * places.Length) + 511) / 512 * 512;
        uint next = places.Where(place => place < Zero).Select(place => place + 1).DefaultIfEmpty().Max();
        var image = new byte[data + (next * (BlockSize + Extra))];
        Encoding.ASCII.GetBytes("<<< made by hand >>>\n", image);
        W32(image, 64, 0xbeda107f);
        W32(image, 68, Version);
        int at = 72;
        if (!isOld)
        {
            W32(image, at, HeaderSize);
            at += 4;
        }

        W32(image, at, Type);
        at += 8 + 256;
        if (!isOld)
        {
            W32(image, at, (uint)table);
            W32(image, at + 4, (uint)data);
            at += 8;
        }

        W32(image, at + 12, 512);
        at += isOld ? 16 : 20;
        BinaryPrimitives.WriteInt64LittleEndian(image.AsSpan(at), Size);
        W32(image, at + 8, (uint)BlockSize);
        at += 12;
        if (!isOld)
        {
            W32(image, at, (uint)Extra);
            at += 4;
        }

        W32(image, at, (uint)places.Length);
        W32(image, at + 4, Count ?? next);
        at += 8;
        foreach (Guid id in isOld ? (Guid[])[CreateId, ModifyId, LinkId] : [CreateId, ModifyId, LinkId, ParentModifyId])
        {
            id.TryWriteBytes(image.AsSpan(at));
            at += 16;
        }

        for (int i = 0; i < places.Length; i++)
        {
            W32(image, table + (4 * i), places[i]);
            int start = i * BlockSize;
            if (places[i] < Zero && start < content.Length)
            {
                int host = data + ((int)places[i] * (BlockSize + Extra)) + Extra;
                content[start..Math.Min(content.Length, start + BlockSize)].CopyTo(image.AsSpan(host));
            }
        }

        return image;
    }

    private static void W32(byte[] image, int at, uint value) =>
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(at), value);
}
