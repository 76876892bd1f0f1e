namespace ImageMount.Formats.Mapped;

/// <summary>
/// Free units of an image, as runs in the order of their place: what an allocator gives out first. Bounded in the
/// number of runs; the owner, who can find free units again in its own tables, is told what was not kept. Not
/// thread-safe.
/// </summary>
public sealed class FreeRuns(int maxRuns)
{
    private readonly List<Run> _runs = [];

    /// <summary>Number of runs.</summary>
    public int Count => _runs.Count;

    /// <summary>True when no further separate run can be kept.</summary>
    public bool IsFull => _runs.Count >= maxRuns;

    /// <summary>Adds free units, joined with their neighbours. False: not kept, for want of room.</summary>
    public bool Add(long first, long count)
    {
        int index = IndexOf(first);
        bool joinsPrevious = index > 0 && _runs[index - 1].End == first;
        bool joinsNext = index < _runs.Count && _runs[index].First == first + count;
        if (joinsPrevious && joinsNext)
        {
            _runs[index - 1] = new Run(_runs[index - 1].First, _runs[index].End);
            _runs.RemoveAt(index);
        }
        else if (joinsPrevious)
        {
            _runs[index - 1] = new Run(_runs[index - 1].First, first + count);
        }
        else if (joinsNext)
        {
            _runs[index] = new Run(first, _runs[index].End);
        }
        else if (IsFull)
        {
            return false;
        }
        else
        {
            _runs.Insert(index, new Run(first, first + count));
        }

        return true;
    }

    /// <summary>The lowest run with at least <paramref name="want"/> units, else the lowest run at all.</summary>
    public bool TryPeek(long want, out long first, out long count)
    {
        const int LongestSearch = 64;
        first = count = 0;
        for (int i = 0; i < _runs.Count && i < LongestSearch; i++)
        {
            if (i == 0 || _runs[i].End - _runs[i].First >= want)
            {
                first = _runs[i].First;
                count = _runs[i].End - first;
                if (count >= want)
                {
                    break;
                }
            }
        }

        return count > 0;
    }

    /// <summary>Takes units out that lie in one run.</summary>
    public void Take(long first, long count)
    {
        int index = IndexOf(first + 1) - 1;
        Run run = _runs[index];
        if (first < run.First || first + count > run.End)
        {
            throw new InvalidOperationException("units are taken that were not free");
        }

        _runs.RemoveAt(index);
        if (first + count < run.End)
        {
            _runs.Insert(index, new Run(first + count, run.End));
        }

        if (run.First < first)
        {
            _runs.Insert(index, new Run(run.First, first));
        }
    }

    /// <summary>
    /// Where the run begins that ends at <paramref name="end"/>; <paramref name="end"/> itself when there is none.
    /// </summary>
    public long TailStart(long end) => _runs.Count > 0 && _runs[^1].End == end ? _runs[^1].First : end;

    private int IndexOf(long first)
    {
        int low = 0;
        int high = _runs.Count;
        while (low < high)
        {
            int middle = low + high >>> 1;
            if (_runs[middle].First < first)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low;
    }

    private readonly record struct Run(long First, long End);
}
