using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// On-disk constants of VMDK (VMware, "Virtual Disk Format 5.0"; sections are named at each group) and the limits that
/// keep a hostile image from using up the machine.
/// </summary>
internal static class VmdkLayout
{
    /// <summary>Sectors of 512 bytes are the unit of every number in the format.</summary>
    public const int SectorSize = 512;

    /// <summary>"KDMV" ("Hosted Sparse Extents").</summary>
    public const uint SparseMagic = 0x564d444b;

    /// <summary>"COWD", the sparse extents of older ESX ("ESXi Host Sparse Extents").</summary>
    public const uint CowdMagic = 0x44574f43;

    /// <summary>Low half of the first word of a SESPARSE extent (ESXi 6.5 and later; not in the technote).</summary>
    public const uint SeSparseMagic = 0xcafebabe;

    /// <summary>First word of a SESPARSE extent's second header.</summary>
    public const ulong SeSparseVolatileMagic = 0xcafecafe;

    /// <summary>2.1, the only version of SESPARSE that is known.</summary>
    public const ulong SeSparseVersion = 0x2_0000_0001;

    /// <summary>Grain of SESPARSE, sectors; the only one that is known.</summary>
    public const ulong SeSparseGrainSectors = 8;

    /// <summary>Grain table of SESPARSE, sectors: 4096 entries of 64 bits; the only size that is known.</summary>
    public const ulong SeSparseTableSectors = 64;

    /// <summary>Newest version of the sparse header: the one that has incompatible flags.</summary>
    public const uint MaxVersion = 3;

    /// <summary>gdOffset of a stream: the directory is found through the footer ("Stream-Optimized Compressed").</summary>
    public const ulong DirectoryAtEnd = ulong.MaxValue;

    /// <summary>compressAlgorithm: RFC 1951 in its RFC 1950 container.</summary>
    public const ushort CompressionDeflate = 1;

    /// <summary>Grain table entry of a grain that reads as zeroes, where the header's flag allows it.</summary>
    public const uint ZeroedGrain = 1;

    /// <summary>parentCID of a disk without parent ("The Header").</summary>
    public const uint NoParent = 0xffffffff;

    /// <summary>Where the header keeps the byte that says that somebody has the extent open for writing.</summary>
    public const int UncleanShutdownOffset = 72;

    /// <summary>Bytes of a COWD header.</summary>
    public const int CowdHeaderSize = 2048;

    /// <summary>Entries of a COWD grain table; always.</summary>
    public const int CowdTableEntries = 4096;

    /// <summary>Where a COWD header keeps the first sector that was never given out.</summary>
    public const int CowdFreeSectorOffset = 28;

    /// <summary>Where a COWD header of a child names its parent: 1024 bytes, zero-terminated.</summary>
    public const int CowdParentOffset = 32;

    /// <summary>Most bytes of that name.</summary>
    public const int CowdParentLength = 1024;

    /// <summary>Where a COWD header says that somebody has the extent open for writing.</summary>
    public const int CowdUncleanOffset = 1648;

    /// <summary>flags of a COWD header: it has no parent.</summary>
    public const uint CowdRoot = 1;

    /// <summary>Bytes of a grain's marker before the compressed data.</summary>
    public const int GrainMarkerSize = 12;

    /// <summary>Smallest grain, sectors (the technote asks for more than 8; some writers make exactly 8).</summary>
    public const ulong MinGrainSectors = 8;

    /// <summary>Largest grain, sectors: 64 MiB.</summary>
    public const ulong MaxGrainSectors = (64 << 20) / SectorSize;

    /// <summary>Largest compressed grain, sectors: 2 MiB; it has to be decoded as a whole.</summary>
    public const ulong MaxCompressedGrainSectors = (2 << 20) / SectorSize;

    /// <summary>Most entries of a grain table. The technote's value is always 512.</summary>
    public const uint MaxTableEntries = 4096;

    /// <summary>Most grain directory entries of all extents together: 128 TiB with the usual geometry.</summary>
    public const long MaxDirectoryEntries = 4 << 20;

    /// <summary>Longest descriptor, bytes.</summary>
    public const int MaxDescriptorBytes = 1 << 20;

    /// <summary>Most extents; the graph has a limit of its own for those that are files.</summary>
    public const int MaxExtents = 4096;

    /// <summary>Longest line of a descriptor, characters.</summary>
    public const int MaxLineLength = 8192;

    /// <summary>Most ddb entries kept.</summary>
    public const int MaxDatabaseEntries = 1024;
}

/// <summary>flags of the sparse header ("Hosted Sparse Extents").</summary>
[Flags]
internal enum VmdkFlags : uint
{
    /// <summary>No flags.</summary>
    None = 0,

    /// <summary>The four line-end characters are there, to detect damage by text-mode transfers.</summary>
    NewlineTest = 1,

    /// <summary>The redundant grain directory is in use.</summary>
    Redundant = 2,

    /// <summary>Grain table entries of 1 mean zeroes.</summary>
    ZeroedGrain = 4,

    /// <summary>Grains are compressed.</summary>
    Compressed = 1 << 16,

    /// <summary>Markers stand before grains and tables.</summary>
    Markers = 1 << 17,

    /// <summary>Flags that a reader must know, or not read.</summary>
    Incompatible = 0xffff0000,
}

/// <summary>Type of a marker that stands before metadata in a stream ("Stream-Optimized Compressed").</summary>
internal enum VmdkMarkerType : uint
{
    /// <summary>End of the stream.</summary>
    EndOfStream = 0,

    /// <summary>A grain table follows.</summary>
    GrainTable = 1,

    /// <summary>The grain directory follows.</summary>
    GrainDirectory = 2,

    /// <summary>The footer, a copy of the header with the final gdOffset, follows.</summary>
    Footer = 3,
}

/// <summary>Header of a sparse extent, the first sector of its file ("Hosted Sparse Extents"). Offsets are in sectors.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VmdkSparseHeader
{
    public Le32 Magic;
    public Le32 Version;
    public Le32 Flags;
    public Le64 Capacity;
    public Le64 GrainSize;
    public Le64 DescriptorOffset;
    public Le64 DescriptorSize;
    public Le32 EntriesPerTable;
    public Le64 RedundantDirectoryOffset;
    public Le64 DirectoryOffset;
    public Le64 Overhead;
    public byte UncleanShutdown;
    public byte SingleEndLine;
    public byte NonEndLine;
    public byte DoubleEndLine1;
    public byte DoubleEndLine2;
    public Le16 CompressAlgorithm;
}

/// <summary>Start of a marker's sector; a grain's compressed bytes begin in place of the type.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VmdkMarker
{
    /// <summary>Sector of the grain in the extent, or sectors that follow a metadata marker.</summary>
    public Le64 Value;

    /// <summary>Compressed bytes; 0 for a metadata marker.</summary>
    public Le32 Size;

    /// <summary>What follows, when the size is 0.</summary>
    public Le32 Type;
}

/// <summary>Start of a COWD extent's header ("ESXi Host Sparse Extents"); the rest has its offsets above.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VmdkCowdHeader
{
    public Le32 Magic;
    public Le32 Version;
    public Le32 Flags;
    public Le32 Capacity;
    public Le32 GrainSize;
    public Le32 DirectoryOffset;
    public Le32 DirectoryEntries;
    public Le32 FreeSector;
}

/// <summary>A part of a SESPARSE file, in sectors.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VmdkSeSparseArea
{
    public Le64 Offset;
    public Le64 Size;
}

/// <summary>
/// First sector of a SESPARSE extent. Not in the technote; the names are those of ESXi's own log (hostd.log).
/// </summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VmdkSeSparseConstHeader
{
    public Le64 Magic;
    public Le64 Version;
    public Le64 Capacity;
    public Le64 GrainSize;
    public Le64 GrainTableSize;
    public Le64 Flags;
    public Le64 Reserved1;
    public Le64 Reserved2;
    public Le64 Reserved3;
    public Le64 Reserved4;
    public VmdkSeSparseArea VolatileHeader;
    public VmdkSeSparseArea JournalHeader;
    public VmdkSeSparseArea Journal;
    public VmdkSeSparseArea GrainDirectory;
    public VmdkSeSparseArea GrainTables;
    public VmdkSeSparseArea FreeBitmap;
    public VmdkSeSparseArea BackMap;
    public VmdkSeSparseArea Grains;
}

/// <summary>The second header of a SESPARSE extent, which changes while it is in use.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VmdkSeSparseVolatileHeader
{
    public Le64 Magic;
    public Le64 FreeTableNumber;
    public Le64 NextTransaction;
    public Le64 ReplayJournal;
}
