namespace ImageMount.Formats.Mapped;

/// <summary>
/// Guest ranges that somebody is changing the mapping of. A writable map keeps its leases here, so that whoever needs
/// an overlapping range waits. Not thread-safe: used under the map's lock. There are as many as there are requests
/// under way, so a list is searched from end to end.
/// </summary>
public sealed class LeasesInFlight
{
    private readonly List<Hold> _holds = [];

    /// <summary>Ranges held.</summary>
    public int Count => _holds.Count;

    /// <summary>Finds the hold that overlaps the range and begins first.</summary>
    public bool TryFindConflict(long start, long end, out Hold conflict)
    {
        conflict = null!;
        foreach (Hold hold in _holds)
        {
            if (hold.Start < end && start < hold.End && (conflict is null || hold.Start < conflict.Start))
            {
                conflict = hold;
            }
        }

        return conflict is not null;
    }

    /// <summary>Holds a range that no other hold overlaps.</summary>
    public Hold Add(long start, long end)
    {
        var hold = new Hold(start, end);
        _holds.Add(hold);
        return hold;
    }

    /// <summary>Lets a range go and wakes who waits for it.</summary>
    public void Remove(Hold hold)
    {
        int index = _holds.IndexOf(hold);
        _holds[index] = _holds[^1];
        _holds.RemoveAt(_holds.Count - 1);
        hold.Wake();
    }

    /// <summary>A held range.</summary>
    public sealed class Hold(long start, long end)
    {
        private TaskCompletionSource? _released;

        /// <summary>First guest byte.</summary>
        public long Start { get; } = start;

        /// <summary>First guest byte after it.</summary>
        public long End { get; } = end;

        /// <summary>Completes when the range is let go; asked for under the lock, awaited outside.</summary>
        public Task WaitAsync() =>
            (_released ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;

        internal void Wake() => _released?.TrySetResult();
    }
}
