namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>Sizes and shifts of a format with two levels of tables; computed once, used everywhere.</summary>
internal sealed class ClusterGeometry
{
    /// <summary>Tables are cached and written in slices of at most this many bytes.</summary>
    private const int MaxSliceSize = 4096;

    /// <summary>Computes them.</summary>
    /// <param name="clusterBits">log2 of the cluster size.</param>
    /// <param name="l2Bits">log2 of the entries of an L2 table.</param>
    public ClusterGeometry(int clusterBits, int l2Bits)
    {
        ClusterBits = clusterBits;
        ClusterSize = 1 << clusterBits;
        L2Bits = l2Bits;
        L2Size = sizeof(ulong) << l2Bits;
        SliceSize = Math.Min(L2Size, MaxSliceSize);
        SliceEntries = SliceSize / sizeof(ulong);
    }

    /// <summary>log2 of the cluster size.</summary>
    public int ClusterBits { get; }

    /// <summary>Cluster size, bytes.</summary>
    public int ClusterSize { get; }

    /// <summary>log2 of the entries of an L2 table.</summary>
    public int L2Bits { get; }

    /// <summary>Bytes of an L2 table.</summary>
    public int L2Size { get; }

    /// <summary>Clusters that hold an L2 table.</summary>
    public int L2Clusters => (L2Size + ClusterSize - 1) >> ClusterBits;

    /// <summary>Bytes of a cached piece of a table.</summary>
    public int SliceSize { get; }

    /// <summary>Entries of such a piece.</summary>
    public int SliceEntries { get; }

    /// <summary>log2 of the guest bytes that one L1 entry covers; formats see to it that it is less than 63.</summary>
    public int L1Shift => ClusterBits + L2Bits;

    /// <summary>L1 entries that a disk of this size needs.</summary>
    public long L1EntriesFor(long size) => size == 0 ? 0 : L1Index(size - 1) + 1;

    /// <summary>Which L1 entry describes a guest offset.</summary>
    public long L1Index(long guestOffset) => guestOffset >> L1Shift;

    /// <summary>First guest byte that the L1 entry after this offset's describes, or the largest offset there is.</summary>
    public long L1End(long guestOffset) =>
        L1Index(guestOffset) + 1 > long.MaxValue >> L1Shift ? long.MaxValue : (L1Index(guestOffset) + 1) << L1Shift;

    /// <summary>Index in its L2 table of the entry that describes a guest offset.</summary>
    public long L2Index(long guestOffset) => (guestOffset >> ClusterBits) & ((1L << L2Bits) - 1);

    /// <summary>Where in a table's bytes the slice begins that describes a guest offset.</summary>
    public long SliceStart(long guestOffset) => (L2Index(guestOffset) * sizeof(ulong)) & -(long)SliceSize;

    /// <summary>Index in that slice of the entry.</summary>
    public int SliceIndex(long guestOffset) => (int)(guestOffset >> ClusterBits) & (SliceEntries - 1);

    /// <summary>The cluster's first byte.</summary>
    public long RoundDown(long offset) => offset & -(long)ClusterSize;

    /// <summary>Rounds up to whole clusters; offsets near 2^63 stay what they are.</summary>
    public long RoundUp(long offset) =>
        offset > long.MaxValue - ClusterSize ? offset : (offset + ClusterSize - 1) & -(long)ClusterSize;
}
