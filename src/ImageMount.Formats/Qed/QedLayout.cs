using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Qed;

/// <summary>
/// On-disk constants of QED (QEMU, "QED Image Format Specification"; sections are named at each group). Everything is
/// little-endian.
/// </summary>
internal static class QedLayout
{
    /// <summary>"QED\0" ("Header").</summary>
    public const uint Magic = 0x0044_4551;

    /// <summary>Smallest cluster, bytes.</summary>
    public const int MinClusterSize = 4 << 10;

    /// <summary>Largest cluster, bytes.</summary>
    public const int MaxClusterSize = 64 << 20;

    /// <summary>Most clusters of a table.</summary>
    public const int MaxTableSize = 16;

    /// <summary>Most clusters of a header. One is what everybody makes.</summary>
    public const int MaxHeaderClusters = 1 << 16;

    /// <summary>Sizes of disks are multiples of this, bytes.</summary>
    public const int SectorSize = 512;

    /// <summary>Longest name of a backing file, bytes; QEMU's limit.</summary>
    public const int MaxBackingName = 1023;

    /// <summary>L2 entry of a cluster that reads as zeroes ("L2 tables"); offsets of clusters are never 1.</summary>
    public const ulong ZeroCluster = 1;

    /// <summary>Where the feature bits are in the header.</summary>
    public const int FeaturesField = 16;

    /// <summary>Where the auto-clear bits are.</summary>
    public const int AutoclearField = 32;

    /// <summary>Where the size of the disk is.</summary>
    public const int ImageSizeField = 48;

    /// <summary>Where the first cluster may lie: the tables address bytes with 64 bits, files with 63.</summary>
    public const long MaxEnd = long.MaxValue - MaxClusterSize;
}

/// <summary>Feature bits; an image with others must not be opened ("Header").</summary>
[Flags]
internal enum QedFeatures : ulong
{
    /// <summary>No features.</summary>
    None = 0,

    /// <summary>There is a backing file.</summary>
    BackingFile = 1,

    /// <summary>The image was not closed: check it before use.</summary>
    NeedCheck = 2,

    /// <summary>The backing file is raw; its content must not be looked at to find that out.</summary>
    BackingIsRaw = 4,

    /// <summary>All that this program knows.</summary>
    Known = BackingFile | NeedCheck | BackingIsRaw,
}

/// <summary>The first bytes of an image ("Header").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct QedRawHeader
{
    public Le32 Magic;

    /// <summary>Bytes.</summary>
    public Le32 ClusterSize;

    /// <summary>Clusters of an L1 or L2 table.</summary>
    public Le32 TableSize;

    /// <summary>Clusters of the header.</summary>
    public Le32 HeaderSize;

    public Le64 Features;
    public Le64 CompatFeatures;
    public Le64 AutoclearFeatures;
    public Le64 L1TableOffset;

    /// <summary>Size of the disk, bytes.</summary>
    public Le64 ImageSize;

    /// <summary>From the start of the file; counts only with <see cref="QedFeatures.BackingFile"/>.</summary>
    public Le32 BackingNameOffset;

    public Le32 BackingNameSize;
}
