namespace ImageMount.Formats.Qcow2;

/// <summary>Sizes and shifts that follow from the header; computed once, used everywhere.</summary>
public sealed class Qcow2Geometry
{
    /// <summary>Tables are cached and written in slices of at most this many bytes.</summary>
    public const int MaxSliceSize = 4096;

    /// <summary>Computes them.</summary>
    public Qcow2Geometry(int clusterBits, int refcountOrder, bool extendedL2)
    {
        ClusterBits = clusterBits;
        ClusterSize = 1 << clusterBits;
        ExtendedL2 = extendedL2;
        L2EntryBits = extendedL2 ? 4 : 3;
        L2Bits = clusterBits - L2EntryBits;
        L2Entries = 1 << L2Bits;
        UnitBits = extendedL2 ? clusterBits - 5 : clusterBits;
        RefcountOrder = refcountOrder;
        RefcountBits = 1 << refcountOrder;
        RefcountMax = refcountOrder == 6 ? ulong.MaxValue : (1UL << RefcountBits) - 1;
        RefcountBlockBits = clusterBits + 3 - refcountOrder;
        SliceSize = Math.Min(ClusterSize, MaxSliceSize);
        SliceBits = int.Log2(SliceSize);
        SliceEntries = SliceSize >> L2EntryBits;
    }

    /// <summary>log2 of the cluster size.</summary>
    public int ClusterBits { get; }

    /// <summary>Cluster size, bytes.</summary>
    public int ClusterSize { get; }

    /// <summary>True with 128-bit L2 entries.</summary>
    public bool ExtendedL2 { get; }

    /// <summary>log2 of an L2 entry's bytes: 3, or 4 when extended.</summary>
    public int L2EntryBits { get; }

    /// <summary>log2 of the entries of an L2 table.</summary>
    public int L2Bits { get; }

    /// <summary>Entries of an L2 table.</summary>
    public int L2Entries { get; }

    /// <summary>
    /// log2 of the bytes of the smallest range that is mapped on its own: a subcluster when extended, else a cluster.
    /// </summary>
    public int UnitBits { get; }

    /// <summary>Bytes of that range.</summary>
    public int UnitSize => 1 << UnitBits;

    /// <summary>Such ranges in a cluster: 32 or 1.</summary>
    public int UnitsPerCluster => 1 << ClusterBits - UnitBits;

    /// <summary>log2 of the refcount width in bits.</summary>
    public int RefcountOrder { get; }

    /// <summary>Refcount width in bits.</summary>
    public int RefcountBits { get; }

    /// <summary>Largest refcount.</summary>
    public ulong RefcountMax { get; }

    /// <summary>log2 of the clusters that a refcount block counts.</summary>
    public int RefcountBlockBits { get; }

    /// <summary>Bytes of a cached slice of a table.</summary>
    public int SliceSize { get; }

    /// <summary>log2 of it.</summary>
    public int SliceBits { get; }

    /// <summary>L2 entries of a slice.</summary>
    public int SliceEntries { get; }

    /// <summary>log2 of the guest bytes that one L1 entry covers.</summary>
    public int L1Shift => ClusterBits + L2Bits;

    /// <summary>L1 entries that a disk of this size needs.</summary>
    public long L1EntriesFor(long size) => size == 0 ? 0 : (size - 1 >> L1Shift) + 1;

    /// <summary>
    /// Rounds up to whole clusters. The result may be as large as 2^63 for sizes near it; callers limit sizes first.
    /// </summary>
    public long RoundUp(long bytes) => bytes + ClusterSize - 1 & -(long)ClusterSize;

    /// <summary>Clusters that hold this many bytes.</summary>
    public long ClustersFor(long bytes) => bytes + ClusterSize - 1 >> ClusterBits;
}
