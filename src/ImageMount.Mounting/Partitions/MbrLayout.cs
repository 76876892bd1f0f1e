using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Mounting.Partitions;

/// <summary>
/// The DOS partition table in the last bytes of a 512-byte boot record; the same in every extended boot record.
/// </summary>
internal static class MbrLayout
{
    public const int RecordSize = 512;
    public const int TableOffset = 446;
    public const int EntryCount = 4;
    public const int SignatureOffset = 510;
    public const ushort Signature = 0xAA55;

    public const byte StatusBootable = 0x80;

    public const byte TypeEmpty = 0x00;
    public const byte TypeExtendedChs = 0x05;
    public const byte TypeExtendedLba = 0x0F;
    public const byte TypeExtendedLinux = 0x85;
    public const byte TypeGptProtective = 0xEE;

    /// <summary>One of the four entries, 16 bytes.</summary>
    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    internal readonly struct Entry
    {
        public readonly byte Status;
        public readonly byte FirstHead;
        public readonly Le16 FirstCylinderSector;
        public readonly byte Type;
        public readonly byte LastHead;
        public readonly Le16 LastCylinderSector;
        public readonly Le32 FirstSector;
        public readonly Le32 SectorCount;

        public bool IsExtended => Type is TypeExtendedChs or TypeExtendedLba or TypeExtendedLinux;

        public bool IsUsed => Type != TypeEmpty && SectorCount != 0;

        public bool HasValidStatus => Status is 0 or StatusBootable;
    }

    /// <summary>The four entries of a boot record; false when it has no signature.</summary>
    public static bool TryReadEntries(ReadOnlySpan<byte> record, Span<Entry> entries)
    {
        var reader = new SpanReader(record);
        if (!reader.TrySeek(SignatureOffset) || !reader.TryRead(out Le16 signature) || signature != Signature)
        {
            return false;
        }

        reader.TrySeek(TableOffset);
        for (int i = 0; i < EntryCount; i++)
        {
            if (!reader.TryRead(out entries[i]))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>
    /// True when the sector begins like the boot sector of a FAT or NTFS file system, which ends in the same signature
    /// and may have anything where a partition table would be.
    /// </summary>
    public static bool LooksLikeFileSystem(ReadOnlySpan<byte> record)
    {
        if (record[3..11].SequenceEqual("NTFS    "u8) || record[3..11].SequenceEqual("EXFAT   "u8))
        {
            return true;
        }

        int bytesPerSector = record[11] | record[12] << 8;
        int sectorsPerCluster = record[13];
        int reserved = record[14] | record[15] << 8;
        return record[0] is 0xEB or 0xE9
            && bytesPerSector is 512 or 1024 or 2048 or 4096
            && sectorsPerCluster != 0 && (sectorsPerCluster & (sectorsPerCluster - 1)) == 0
            && reserved != 0
            && record[16] is 1 or 2
            && record[21] >= 0xF0;
    }
}
