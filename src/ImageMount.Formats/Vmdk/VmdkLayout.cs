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

    /// <summary>First half of the sparse extents of ESXi 6.5 and later (SESPARSE; not in the technote).</summary>
    public const uint SeSparseMagic = 0xcafebabe;

    /// <summary>Newest version of the sparse header. Version 3 adds what a writer would have to keep up; we only read it.</summary>
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

    /// <summary>Most grain directory entries of all extents together: 64 TiB with the usual geometry.</summary>
    public const long MaxDirectoryEntries = 2 << 20;

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
