using System.Runtime.CompilerServices;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Qcow2;

/// <summary>What a cluster of the image file is used for; several bits when structures overlap.</summary>
[Flags]
internal enum ClusterUse : ushort
{
    None = 0,
    Header = 1,
    L1Table = 2,
    L2Table = 4,
    RefcountTable = 8,
    RefcountBlock = 16,
    SnapshotTable = 32,
    BitmapDirectory = 64,
    BitmapTable = 128,
    BitmapData = 256,
    GuestData = 512,
    CompressedData = 1024,
    EncryptionHeader = 2048,
}

/// <summary>
/// How often each cluster of an image file is referenced, and by what. Counts are bytes with an overflow table; pages
/// of them come into being where something is referenced, so that a huge sparse file costs nothing. Above
/// <see cref="MaxClusters"/> referenced clusters (16 TiB of 64 KiB clusters) counting gives up with a clear error.
/// </summary>
internal sealed class Qcow2CheckCounts
{
    /// <summary>Most clusters that are counted, in whole pages; about 3 bytes of memory each, 800 MiB in all.</summary>
    public const long MaxClusters = 1L << 28;

    private const int PageShift = 12;
    private const int PageSize = 1 << PageShift;
    private const byte Overflowed = byte.MaxValue;

    private readonly Dictionary<long, Page> _pages = [];
    private readonly Dictionary<long, long> _overflow = [];
    private Page _lastPage = new();
    private long _lastIndex = -1;

    /// <summary>One more than the highest cluster that was referenced.</summary>
    public long End { get; private set; }

    /// <summary>Adds references to one cluster.</summary>
    public void Add(long cluster, ClusterUse use, long count)
    {
        Page page = PageOf(cluster, create: true)!;
        int slot = (int)(cluster & PageSize - 1);
        page.Uses[slot] |= use;
        long sum = count + (page.Counts[slot] == Overflowed ? _overflow[cluster] : page.Counts[slot]);
        if (sum < Overflowed)
        {
            page.Counts[slot] = (byte)sum;
        }
        else
        {
            page.Counts[slot] = Overflowed;
            _overflow[cluster] = sum;
        }

        End = Math.Max(End, cluster + 1);
    }

    /// <summary>References of a cluster.</summary>
    public long Count(long cluster)
    {
        byte count = PageOf(cluster, create: false)?.Counts[(int)(cluster & PageSize - 1)] ?? 0;
        return count == Overflowed ? _overflow[cluster] : count;
    }

    /// <summary>What a cluster is used for.</summary>
    public ClusterUse Use(long cluster) =>
        PageOf(cluster, create: false)?.Uses[(int)(cluster & PageSize - 1)] ?? ClusterUse.None;

    /// <summary>True when no cluster of the range is referenced; may be false without need.</summary>
    public bool IsUntouched(long first, long count)
    {
        for (long index = first >> PageShift; index <= first + count - 1 >> PageShift; index++)
        {
            if (_pages.ContainsKey(index))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Clusters that are referenced, in ascending order.</summary>
    public IEnumerable<long> Referenced()
    {
        foreach (long index in _pages.Keys.Order())
        {
            byte[] counts = _pages[index].Counts;
            for (int slot = 0; slot < PageSize; slot++)
            {
                if (counts[slot] != 0)
                {
                    yield return (index << PageShift) + slot;
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Page? PageOf(long cluster, bool create)
    {
        long index = cluster >> PageShift;
        return index == _lastIndex ? _lastPage : FindPage(index, create);
    }

    private Page? FindPage(long index, bool create)
    {
        if (!_pages.TryGetValue(index, out Page? page))
        {
            if (!create)
            {
                return null;
            }

            if ((_pages.Count + 1L) * PageSize > MaxClusters)
            {
                throw BlockException.Limit(
                    "the image is too large to be checked: more clusters than can be counted in memory",
                    (_pages.Count + 1L) * PageSize, MaxClusters);
            }

            page = new Page();
            _pages.Add(index, page);
        }

        (_lastIndex, _lastPage) = (index, page);
        return page;
    }

    private sealed class Page
    {
        public readonly byte[] Counts = new byte[PageSize];
        public readonly ClusterUse[] Uses = new ClusterUse[PageSize];
    }
}
