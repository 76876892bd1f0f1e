using System.Numerics;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>
/// Which units of a file are in use, for a check: a bit each, in small pages that exist where something was marked, so
/// that memory follows what the tables say and not the length of the file.
/// </summary>
internal sealed class ClusterMarks
{
    private const int PageShift = 10;
    private const int PageUnits = 1 << PageShift;
    private const int MaxPages = 8 << 20;
    private readonly Dictionary<long, ulong[]> _pages = [];
    private long _lastIndex = -1;
    private ulong[] _lastPage = [];

    /// <summary>Units marked.</summary>
    public long Count { get; private set; }

    /// <summary>Marks units; false when one of them was marked before.</summary>
    public bool TryMark(long first, long count)
    {
        bool fresh = true;
        for (long unit = first; unit < first + count; unit++)
        {
            ref ulong word = ref PageOf(unit >> PageShift)[(int)(unit & (PageUnits - 1)) >> 6];
            ulong bit = 1UL << (int)(unit & 63);
            if ((word & bit) != 0)
            {
                fresh = false;
                continue;
            }

            word |= bit;
            Count++;
        }

        return fresh;
    }

    /// <summary>True when one of the units is marked.</summary>
    public bool ContainsAny(long first, long count)
    {
        for (long unit = first; unit < first + count; unit++)
        {
            if (_pages.TryGetValue(unit >> PageShift, out ulong[]? page)
                && ((page[(int)(unit & (PageUnits - 1)) >> 6] >> (int)(unit & 63)) & 1) != 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Runs of units that are not marked, up to an end.</summary>
    public IEnumerable<(long First, long Count)> Gaps(long end)
    {
        long next = 0;
        foreach (long index in _pages.Keys.Order())
        {
            ulong[] page = _pages[index];
            for (int i = 0; i < page.Length; i++)
            {
                for (ulong word = page[i]; word != 0; word &= word - 1)
                {
                    long unit = (index << PageShift) + (i * 64L) + BitOperations.TrailingZeroCount(word);
                    if (unit > next && next < end)
                    {
                        yield return (next, Math.Min(unit, end) - next);
                    }

                    next = unit + 1;
                }
            }
        }

        if (next < end)
        {
            yield return (next, end - next);
        }
    }

    private ulong[] PageOf(long index)
    {
        if (index == _lastIndex)
        {
            return _lastPage;
        }

        if (!_pages.TryGetValue(index, out ulong[]? page))
        {
            if (_pages.Count >= MaxPages)
            {
                throw BlockException.Limit("the image is too scattered to be checked (areas)", MaxPages + 1L, MaxPages);
            }

            _pages.Add(index, page = new ulong[PageUnits / 64]);
        }

        _lastIndex = index;
        _lastPage = page;
        return page;
    }
}
