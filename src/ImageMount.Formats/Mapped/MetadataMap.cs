using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// Which host clusters hold metadata that this program knows of: headers, tables, structures of snapshots and bitmaps.
/// Payload is never written there: a mapping that says so is damage. Asked on every write, so reading takes no lock; a
/// bit a cluster, in pages.
/// </summary>
internal sealed class MetadataMap
{
    private const int PageShift = 15;
    private const int PageMask = (1 << PageShift) - 1;

    /// <summary>Top level of at most 64 MiB; with 512-byte clusters that is a file of 128 TiB.</summary>
    private const long MaxPages = 8 << 20;

    private ulong[]?[] _pages = [];

    /// <summary>True when a cluster of the range is metadata.</summary>
    public bool Contains(long cluster, long count)
    {
        ulong[]?[] pages = Volatile.Read(ref _pages);
        for (long end = cluster + count; cluster < end; cluster++)
        {
            long index = cluster >> PageShift;
            if (index >= pages.Length)
            {
                return false;
            }

            ulong[]? page = Volatile.Read(ref pages[index]);
            int bit = (int)(cluster & PageMask);
            if (page is not null && (Volatile.Read(ref page[bit >> 6]) >> bit & 1) != 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>
    /// Notes metadata; under the image's lock. False: a cluster was noted before (the first one is given).
    /// </summary>
    public bool Add(long cluster, long count, out long overlap)
    {
        overlap = -1;
        for (long end = cluster + count; cluster < end; cluster++)
        {
            ref ulong word = ref Word(cluster);
            ulong bit = 1UL << (int)(cluster & 63);
            if ((word & bit) != 0 && overlap < 0)
            {
                overlap = cluster;
            }

            Volatile.Write(ref word, word | bit);
        }

        return overlap < 0;
    }

    /// <summary>Notes that clusters are free; under the image's lock.</summary>
    public void Remove(long cluster, long count)
    {
        for (long end = cluster + count; cluster < end; cluster++)
        {
            if (Contains(cluster, 1))
            {
                ref ulong word = ref Word(cluster);
                Volatile.Write(ref word, word & ~(1UL << (int)(cluster & 63)));
            }
        }
    }

    private ref ulong Word(long cluster)
    {
        long index = cluster >> PageShift;
        if (index >= MaxPages)
        {
            throw BlockException.Limit("the image has too many clusters", cluster, MaxPages << PageShift);
        }

        if (index >= _pages.Length)
        {
            var pages = new ulong[]?[Math.Min(MaxPages, Math.Max(index + 1, _pages.Length * 2L))];
            _pages.CopyTo(pages, 0);
            Volatile.Write(ref _pages, pages);
        }

        ulong[] page = _pages[index] ?? new ulong[(PageMask + 1) / 64];
        Volatile.Write(ref _pages[index], page);
        return ref page[(int)(cluster & PageMask) >> 6];
    }
}
