using System.Buffers.Binary;
using System.Text;

namespace ImageMount.Formats.Tests.Vhdx;

/// <summary>
/// Changes an image where its structures are, by [MS-VHDX] and not by our driver: an independent checksum, offsets by
/// number. Images of ours have the log at 1 MiB, 1 MiB long, then the metadata, then the BAT.
/// </summary>
internal sealed class VhdxByHand(byte[] image)
{
    public const int Header1 = 64 << 10;
    public const int Header2 = 128 << 10;
    public const int Regions1 = 192 << 10;
    public const int Regions2 = 256 << 10;
    public const int Log = 1 << 20;
    public const int LogLength = 1 << 20;
    public const int Metadata = 2 << 20;
    public const int Bat = 3 << 20;
    private const int Sector = 4096;

    public byte[] Image { get; private set; } = (byte[])image.Clone();

    /// <summary>The header that counts.</summary>
    public int CurrentHeader => U64(Header1 + 8) > U64(Header2 + 8) ? Header1 : Header2;

    public static uint Crc32C(ReadOnlySpan<byte> bytes)
    {
        uint crc = uint.MaxValue;
        foreach (byte b in bytes)
        {
            crc ^= b;
            for (int bit = 0; bit < 8; bit++)
            {
                crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F6_3B78u : 0);
            }
        }

        return ~crc;
    }

    public ulong U64(int at) => BinaryPrimitives.ReadUInt64LittleEndian(Image.AsSpan(at));

    public VhdxByHand Put64(int at, ulong value)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(Image.AsSpan(at), value);
        return this;
    }

    public VhdxByHand Put32(int at, uint value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(Image.AsSpan(at), value);
        return this;
    }

    /// <summary>Sets a BAT entry.</summary>
    public VhdxByHand Entry(int index, int state, int placeMiB) =>
        Put64(Bat + (index * 8), ((ulong)placeMiB << 20) | (uint)state);

    /// <summary>Makes the checksum of a header right.</summary>
    public VhdxByHand SealHeader(int at) => Seal(at, 4096);

    /// <summary>Makes the checksum of a region table right.</summary>
    public VhdxByHand SealRegions(int at) => Seal(at, 64 << 10);

    /// <summary>Makes the file longer or shorter.</summary>
    public VhdxByHand Resize(int length)
    {
        byte[] content = Image;
        Array.Resize(ref content, length);
        Image = content;
        return this;
    }

    /// <summary>Puts bytes at a place of the file.</summary>
    public VhdxByHand Put(int at, ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Image.AsSpan(at));
        return this;
    }

    /// <summary>Puts a GUID into the current header's log field.</summary>
    public VhdxByHand AnnounceLog(Guid guid)
    {
        Put(CurrentHeader + 48, guid.ToByteArray());
        return SealHeader(CurrentHeader);
    }

    /// <summary>Writes a log entry; it goes round the end of the log where it must. Gives its length.</summary>
    /// <param name="at">Where in the log.</param>
    /// <param name="guid">Log GUID.</param>
    /// <param name="sequence">Sequence number.</param>
    /// <param name="tail">Where the sequence begins.</param>
    /// <param name="changes">File offset, and a sector, or null with a length to zero.</param>
    /// <param name="flushedMiB">Length that the file had.</param>
    /// <param name="lastMiB">Length that everything fits into.</param>
    public int LogEntry(
        int at, Guid guid, ulong sequence, int tail, IReadOnlyList<(long Offset, byte[]? Sector, long Zero)> changes,
        int flushedMiB, int lastMiB)
    {
        int descriptorSectors = (64 + (32 * changes.Count) + Sector - 1) / Sector;
        var entry = new byte[(descriptorSectors + changes.Count(change => change.Sector is not null)) * Sector];
        Encoding.ASCII.GetBytes("loge", entry);
        Span<byte> e = entry;
        BinaryPrimitives.WriteUInt32LittleEndian(e[8..], (uint)entry.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(e[12..], (uint)tail);
        BinaryPrimitives.WriteUInt64LittleEndian(e[16..], sequence);
        BinaryPrimitives.WriteUInt32LittleEndian(e[24..], (uint)changes.Count);
        guid.ToByteArray().CopyTo(e[32..]);
        BinaryPrimitives.WriteUInt64LittleEndian(e[48..], (ulong)flushedMiB << 20);
        BinaryPrimitives.WriteUInt64LittleEndian(e[56..], (ulong)lastMiB << 20);
        int data = descriptorSectors * Sector;
        for (int i = 0; i < changes.Count; i++)
        {
            Span<byte> descriptor = e[(64 + (32 * i))..];
            (long offset, byte[]? sector, long zero) = changes[i];
            Encoding.ASCII.GetBytes(sector is null ? "zero" : "desc", descriptor);
            BinaryPrimitives.WriteUInt64LittleEndian(descriptor[16..], (ulong)offset);
            BinaryPrimitives.WriteUInt64LittleEndian(descriptor[24..], sequence);
            if (sector is null)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(descriptor[8..], (ulong)zero);
                continue;
            }

            sector.AsSpan(^4..).CopyTo(descriptor[4..]);
            sector.AsSpan(0, 8).CopyTo(descriptor[8..]);
            sector.CopyTo(e[data..]);
            Encoding.ASCII.GetBytes("data", e[data..]);
            BinaryPrimitives.WriteUInt32LittleEndian(e[(data + 4)..], (uint)(sequence >> 32));
            BinaryPrimitives.WriteUInt32LittleEndian(e[(data + Sector - 4)..], (uint)sequence);
            data += Sector;
        }

        BinaryPrimitives.WriteUInt32LittleEndian(e[4..], Crc32C(entry));
        for (int i = 0; i < entry.Length; i++)
        {
            Image[Log + ((at + i) % LogLength)] = entry[i];
        }

        return entry.Length;
    }

    private VhdxByHand Seal(int at, int size)
    {
        Put32(at + 4, 0);
        return Put32(at + 4, Crc32C(Image.AsSpan(at, size)));
    }
}
