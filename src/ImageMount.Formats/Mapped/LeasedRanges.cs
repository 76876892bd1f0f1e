namespace ImageMount.Formats.Mapped;

/// <summary>Guest ranges whose leases are out (<see cref="IWritableExtentMap.PrepareWriteAsync"/>): one that overlaps waits.</summary>
internal sealed class LeasedRanges
{
    private readonly Lock _lock = new();
    private readonly List<Range> _ranges = [];

    /// <summary>Enters a range, or gives what to wait for before trying again.</summary>
    public bool TryEnter(long start, long end, out Range entered, out Task wait)
    {
        lock (_lock)
        {
            foreach (Range range in _ranges)
            {
                if (start < range.End && range.Start < end)
                {
                    entered = null!;
                    wait = range.Left.Task;
                    return false;
                }
            }

            entered = new Range(start, end);
            _ranges.Add(entered);
            wait = Task.CompletedTask;
            return true;
        }
    }

    /// <summary>Leaves a range and wakes who waits for it.</summary>
    public void Exit(Range range)
    {
        lock (_lock)
        {
            _ranges.Remove(range);
        }

        range.Left.SetResult();
    }

    /// <summary>A range that somebody has.</summary>
    internal sealed class Range(long start, long end)
    {
        public long Start { get; } = start;

        public long End { get; } = end;

        public TaskCompletionSource Left { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
