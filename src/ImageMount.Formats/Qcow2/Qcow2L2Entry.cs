using System.Numerics;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Qcow2;

/// <summary>What an L2 entry says about a unit (a cluster, or a subcluster of an extended entry).</summary>
public enum Qcow2UnitKind : byte
{
    /// <summary>Not defined here: the backing file, or zeroes.</summary>
    Unallocated,

    /// <summary>Zeroes with nothing stored.</summary>
    Zero,

    /// <summary>Zeroes with space reserved.</summary>
    ZeroAllocated,

    /// <summary>Stored bytes.</summary>
    Data,

    /// <summary>Inside a compressed cluster.</summary>
    Compressed,

    /// <summary>The entry breaks the specification.</summary>
    Invalid,
}

/// <summary>
/// An L2 entry: the descriptor and, with extended entries, the subcluster bitmap ("Cluster mapping", "Extended L2
/// Entries"). Standard entries have a bitmap of 0 here.
/// </summary>
/// <param name="Descriptor">First 64 bits.</param>
/// <param name="Bitmap">Second 64 bits.</param>
public readonly record struct Qcow2L2Entry(ulong Descriptor, ulong Bitmap)
{
    /// <summary>Bitmap of a cluster whose subclusters all read as zeroes.</summary>
    public const ulong AllZero = 0xffff_ffff_0000_0000;

    /// <summary>Bitmap of a cluster whose subclusters are all stored.</summary>
    public const ulong AllStored = 0x0000_0000_ffff_ffff;

    /// <summary>True for a compressed cluster.</summary>
    public bool IsCompressed => (Descriptor & Qcow2Layout.CompressedFlag) != 0;

    /// <summary>True when the refcount of what it points to is exactly one.</summary>
    public bool IsCopied => (Descriptor & Qcow2Layout.CopiedFlag) != 0;

    /// <summary>Host offset of a standard cluster.</summary>
    public long HostOffset => (long)(Descriptor & Qcow2Layout.OffsetMask);

    /// <summary>Subclusters that are stored, one bit each.</summary>
    public uint StoredMask => (uint)Bitmap;

    /// <summary>Subclusters that read as zeroes, one bit each.</summary>
    public uint ZeroMask => (uint)(Bitmap >> 32);

    /// <summary>
    /// True when a standard cluster has a place: an offset, or with an external data file (where the first cluster's is
    /// 0) the copied flag.
    /// </summary>
    public bool HasPlace => (Descriptor & (Qcow2Layout.OffsetMask | Qcow2Layout.CopiedFlag)) != 0;

    /// <summary>State of a unit, and how many units of this cluster from it on share the state.</summary>
    /// <param name="geometry">Sizes.</param>
    /// <param name="version">Version of the image; 2 knows no zero flag.</param>
    /// <param name="unit">0…31, or 0 with standard entries.</param>
    /// <param name="count">Units, at least 1.</param>
    public Qcow2UnitKind Classify(Qcow2Geometry geometry, int version, int unit, out int count)
    {
        count = geometry.UnitsPerCluster - unit;
        if (IsCompressed)
        {
            return IsCopied ? Qcow2UnitKind.Invalid : Qcow2UnitKind.Compressed;
        }

        ulong reserved = Qcow2Layout.L2Reserved | (uint)(geometry.ClusterSize - 1) & ~1UL;
        bool zeroFlag = (Descriptor & Qcow2Layout.ZeroFlag) != 0;
        if ((Descriptor & reserved) != 0 || zeroFlag && (version < 3 || geometry.ExtendedL2))
        {
            return Qcow2UnitKind.Invalid;
        }

        if (geometry.ExtendedL2)
        {
            return ClassifySubcluster(unit, out count);
        }

        if (zeroFlag)
        {
            return HasPlace ? Qcow2UnitKind.ZeroAllocated : Qcow2UnitKind.Zero;
        }

        return HasPlace ? Qcow2UnitKind.Data : Qcow2UnitKind.Unallocated;
    }

    /// <summary>
    /// Where a compressed cluster lies ("Compressed Clusters Descriptor"); false when reserved bits are set.
    /// </summary>
    public bool TryGetCompressed(Qcow2Geometry geometry, out long offset, out int length)
    {
        int offsetBits = 62 - (geometry.ClusterBits - 8);
        offset = (long)(Descriptor & (1UL << offsetBits) - 1);
        int sectors = (int)(Descriptor >> offsetBits & (1UL << 62 - offsetBits) - 1) + 1;
        length = sectors * Qcow2Layout.CompressedSector - (int)(offset & Qcow2Layout.CompressedSector - 1);
        return offset < Qcow2Layout.MaxHostOffset;
    }

    /// <summary>An error that names the entry.</summary>
    public BlockException Error(string what, long entryOffset) =>
        BlockException.Invalid(
            what, entryOffset, Bitmap == 0 ? $"0x{Descriptor:x16}" : $"0x{Descriptor:x16} 0x{Bitmap:x16}",
            "a valid L2 entry");

    private Qcow2UnitKind ClassifySubcluster(int unit, out int count)
    {
        uint stored = StoredMask;
        uint zero = ZeroMask;
        count = 1;
        if ((stored & zero) != 0 || stored != 0 && !HasPlace)
        {
            return Qcow2UnitKind.Invalid;
        }

        if ((stored >> unit & 1) != 0)
        {
            count = BitOperations.TrailingZeroCount(~(stored >> unit));
            return Qcow2UnitKind.Data;
        }

        if ((zero >> unit & 1) != 0)
        {
            count = BitOperations.TrailingZeroCount(~(zero >> unit));
            return HasPlace ? Qcow2UnitKind.ZeroAllocated : Qcow2UnitKind.Zero;
        }

        uint defined = (stored | zero) >> unit;
        count = defined == 0 ? Qcow2Layout.SubclustersPerCluster - unit : BitOperations.TrailingZeroCount(defined);
        return Qcow2UnitKind.Unallocated;
    }
}
