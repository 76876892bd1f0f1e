using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Dmg;

/// <summary>
/// On-disk constants of UDIF, Apple's disk images, and the limits that keep a hostile image from using up the machine.
/// Apple has not published the format; the layout is common knowledge of the programs that read it (libmodi's
/// documentation, "Universal Disk Image Format"), and is held against images that Apple's programs made.
/// </summary>
internal static class DmgLayout
{
    /// <summary>Unit of guest offsets, bytes.</summary>
    public const int SectorSize = 512;

    /// <summary>"koly", the trailer in the last 512 bytes.</summary>
    public const uint TrailerMagic = 0x6b6f6c79;

    /// <summary>The only version of the trailer.</summary>
    public const uint Version = 4;

    /// <summary>Bytes of the trailer.</summary>
    public const int TrailerSize = 512;

    /// <summary>"mish", a table of block runs.</summary>
    public const uint TableMagic = 0x6d697368;

    /// <summary>Bytes of a table before its runs.</summary>
    public const int TableHeaderSize = 204;

    /// <summary>Bytes of a run.</summary>
    public const int RunSize = 40;

    /// <summary>Type of checksums that are CRC-32; 0 is none.</summary>
    public const uint ChecksumCrc32 = 2;

    /// <summary>Largest disk, sectors: 4 EiB.</summary>
    public const ulong MaxSectors = 1UL << 53;

    /// <summary>Most bytes of the property list or the resource fork.</summary>
    public const long MaxPropertyBytes = 256L << 20;

    /// <summary>Most tables, that is partitions and the gaps between them.</summary>
    public const int MaxTables = 4096;

    /// <summary>Most runs of all tables together: 1 TiB with the smallest usual units.</summary>
    public const int MaxRuns = 4 << 20;

    /// <summary>Largest compressed unit, stored or decoded, bytes; usual are 256 KiB to 1 MiB.</summary>
    public const int MaxUnit = 64 << 20;

    /// <summary>Most segments; the graph counts two nodes for each.</summary>
    public const int MaxSegments = 100;

    /// <summary>Longest name of a table that is kept, characters.</summary>
    public const int MaxName = 255;
}

/// <summary>How a run is stored.</summary>
internal enum DmgRunType : uint
{
    /// <summary>Zeroes.</summary>
    Zero = 0,

    /// <summary>As it is.</summary>
    Raw = 1,

    /// <summary>Not in use by the file system; reads as zeroes and is in no checksum.</summary>
    Ignore = 2,

    /// <summary>ADC.</summary>
    Adc = 0x80000004,

    /// <summary>Deflate in its zlib container.</summary>
    Zlib = 0x80000005,

    /// <summary>bzip2.</summary>
    Bzip2 = 0x80000006,

    /// <summary>LZFSE.</summary>
    Lzfse = 0x80000007,

    /// <summary>LZMA in an xz container.</summary>
    Lzma = 0x80000008,

    /// <summary>A remark between runs.</summary>
    Comment = 0x7ffffffe,

    /// <summary>Last of a table.</summary>
    Terminator = 0xffffffff,
}

/// <summary>The trailer, and the same at the end of every segment. Offsets are bytes in the file.</summary>
[StructLayout(LayoutKind.Explicit, Size = DmgLayout.TrailerSize)]
internal struct DmgTrailer
{
    [FieldOffset(0)]
    public Be32 Magic;
    [FieldOffset(4)]
    public Be32 Version;
    [FieldOffset(8)]
    public Be32 HeaderSize;
    [FieldOffset(12)]
    public Be32 Flags;

    /// <summary>Where this segment's data fork begins in that of the whole image.</summary>
    [FieldOffset(16)]
    public Be64 RunningDataForkOffset;
    [FieldOffset(24)]
    public Be64 DataForkOffset;
    [FieldOffset(32)]
    public Be64 DataForkLength;
    [FieldOffset(40)]
    public Be64 ResourceForkOffset;
    [FieldOffset(48)]
    public Be64 ResourceForkLength;

    /// <summary>From 1; 0 in an image that is not segmented.</summary>
    [FieldOffset(56)]
    public Be32 SegmentNumber;
    [FieldOffset(60)]
    public Be32 SegmentCount;
    [FieldOffset(64)]
    public UInt128 SegmentId;
    [FieldOffset(80)]
    public DmgStoredChecksum DataChecksum;
    [FieldOffset(216)]
    public Be64 PropertyListOffset;
    [FieldOffset(224)]
    public Be64 PropertyListLength;

    /// <summary>Over the checksums of the tables, as they are stored.</summary>
    [FieldOffset(352)]
    public DmgStoredChecksum MasterChecksum;
    [FieldOffset(488)]
    public Be32 ImageVariant;
    [FieldOffset(492)]
    public Be64 SectorCount;
}

/// <summary>A checksum; there is room for 128 bytes, of which CRC-32 uses the first four.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct DmgStoredChecksum
{
    public Be32 Type;
    public Be32 Bits;
    public Be32 Value;
}

/// <summary>A table of block runs, without the runs. Numbers are sectors unless they say otherwise.</summary>
[StructLayout(LayoutKind.Explicit, Size = DmgLayout.TableHeaderSize, Pack = 1)]
internal struct DmgTableHeader
{
    [FieldOffset(0)]
    public Be32 Magic;
    [FieldOffset(4)]
    public Be32 Version;
    [FieldOffset(8)]
    public Be64 FirstSector;
    [FieldOffset(16)]
    public Be64 SectorCount;

    /// <summary>Bytes to add to the offsets of runs.</summary>
    [FieldOffset(24)]
    public Be64 DataOffset;
    [FieldOffset(64)]
    public DmgStoredChecksum Checksum;
    [FieldOffset(200)]
    public Be32 RunCount;
}

/// <summary>A run of a table.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct DmgStoredRun
{
    public Be32 Type;
    public Be32 Comment;

    /// <summary>First sector, counted in the table.</summary>
    public Be64 FirstSector;
    public Be64 SectorCount;

    /// <summary>Bytes, in the data fork of the whole image.</summary>
    public Be64 Offset;

    /// <summary>Bytes.</summary>
    public Be64 StoredLength;
}
