using System.Collections;
using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Plan;

/// <summary>
/// What the disk holds and where, as of one scan of the folder: the geometry, the entries, and which clusters are whose.
/// Every chain is contiguous, and clusters are handed out in the order of <see cref="ChainCount"/>; what lies behind
/// <see cref="UsedClusters"/> is free. Immutable; memory in proportion to the number of entries.
/// </summary>
internal sealed class FatPlan
{
    private readonly int[] _owners;
    private readonly uint[] _starts;

    /// <summary>Put together by <see cref="FatPlanner"/>.</summary>
    /// <param name="geometry">Where everything is.</param>
    /// <param name="table">Files and folders.</param>
    /// <param name="owners">Entries that have clusters, in the order of the disk.</param>
    /// <param name="usedClusters">Clusters that they have together.</param>
    /// <param name="volume">What the volume is called.</param>
    public FatPlan(FatGeometry geometry, EntryTable table, int[] owners, uint usedClusters, VolumeIdentity volume)
    {
        Geometry = geometry;
        Table = table;
        Volume = volume;
        UsedClusters = usedClusters;
        Entries = new EntryList(table);
        _owners = owners;
        _starts = new uint[owners.Length];
        for (int i = 0; i < owners.Length; i++)
        {
            _starts[i] = table[owners[i]].FirstCluster;
        }
    }

    /// <summary>Where everything is.</summary>
    public FatGeometry Geometry { get; }

    /// <summary>Files and folders; 0 is the root folder.</summary>
    public IReadOnlyList<PlannedEntry> Entries { get; }

    /// <summary>The same as compact records.</summary>
    public EntryTable Table { get; }

    /// <summary>Label and id.</summary>
    public VolumeIdentity Volume { get; }

    /// <summary>Clusters in use, from <see cref="FatLayout.FirstCluster"/> on without a gap.</summary>
    public uint UsedClusters { get; }

    /// <summary>The first cluster that is free (it may be one behind the last).</summary>
    public uint FirstFreeCluster => FatLayout.FirstCluster + UsedClusters;

    /// <summary>Chains.</summary>
    public int ChainCount => _owners.Length;

    /// <summary>The entry of a chain, by its place on the disk.</summary>
    public int OwnerOf(int chain) => _owners[chain];

    /// <summary>First cluster of a chain.</summary>
    public uint StartOf(int chain) => _starts[chain];

    /// <summary>The cluster behind the last one of a chain.</summary>
    public uint EndOf(int chain) => chain + 1 < _starts.Length ? _starts[chain + 1] : FirstFreeCluster;

    /// <summary>The entry whose chain begins at a cluster; false when none does.</summary>
    public bool TryFindByCluster(uint firstCluster, out int entry)
    {
        int at = Array.BinarySearch(_starts, firstCluster);
        entry = at < 0 ? -1 : _owners[at];
        return at >= 0;
    }

    /// <summary>The chain that a cluster belongs to; false when it is free.</summary>
    public bool TryFindChain(uint cluster, out int chain)
    {
        int at = Array.BinarySearch(_starts, cluster);
        chain = at < 0 ? ~at - 1 : at;
        return chain >= 0 && cluster < FirstFreeCluster;
    }

    /// <summary>
    /// What the FAT says of a cluster (0 and 1 included): the next one, the end of the chain, or 0 for a free one.
    /// </summary>
    public uint FatValueOf(uint cluster)
    {
        FatType type = Geometry.Type;
        if (cluster < FatLayout.FirstCluster)
        {
            // FAT[0] holds the media byte, FAT[1] the marks that the volume is clean ("FAT[0] and FAT[1]").
            return cluster == 0
                ? FatLayout.EndOfChain(type) & ~0xffu | Geometry.Media
                : FatLayout.EndOfChain(type);
        }

        return !TryFindChain(cluster, out int chain) ? 0
            : cluster + 1 < EndOf(chain) ? cluster + 1
            : FatLayout.EndOfChain(type);
    }

    private sealed class EntryList(EntryTable table) : IReadOnlyList<PlannedEntry>
    {
        public int Count => table.Count;

        public PlannedEntry this[int index] => (uint)index < (uint)table.Count
            ? new PlannedEntry(table, index)
            : throw new ArgumentOutOfRangeException(nameof(index));

        public IEnumerator<PlannedEntry> GetEnumerator()
        {
            for (int i = 0; i < table.Count; i++)
            {
                yield return new PlannedEntry(table, i);
            }
        }

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
