namespace ImageMount.Filters.RemoteCache;

/// <summary>
/// A set of units, in pages that exist where something is in it; it only grows. Any number of threads.
/// </summary>
internal sealed class UnitSet
{
    private const int BitsPerWord = 64;
    private const int PageBits = 32768; // 512 MiB of a disk in 4 KiB.
    private readonly ulong[]?[] _pages;

    /// <summary>Empty.</summary>
    public UnitSet(long units) => _pages = new ulong[]?[(units + PageBits - 1) / PageBits];

    /// <summary>True when a unit is in it.</summary>
    public bool Contains(long unit)
    {
        ulong[]? page = Volatile.Read(ref _pages[unit / PageBits]);
        int bit = (int)(unit % PageBits);
        return page is not null && (Volatile.Read(ref page[bit / BitsPerWord]) >> (bit % BitsPerWord) & 1) != 0;
    }

    /// <summary>True when all units from one to another, both included, are in it.</summary>
    public bool ContainsAll(long first, long last)
    {
        for (long unit = first; unit <= last; unit++)
        {
            if (!Contains(unit))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Adds a unit. What was written before is seen by whoever sees it in the set.</summary>
    public void Add(long unit)
    {
        ref ulong[]? slot = ref _pages[unit / PageBits];
        ulong[]? page = Volatile.Read(ref slot);
        if (page is null)
        {
            var made = new ulong[PageBits / BitsPerWord];
            page = Interlocked.CompareExchange(ref slot, made, null) ?? made;
        }

        int bit = (int)(unit % PageBits);
        Interlocked.Or(ref page[bit / BitsPerWord], 1UL << (bit % BitsPerWord));
    }
}
