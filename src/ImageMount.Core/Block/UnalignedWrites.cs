namespace ImageMount.Core.Block;

/// <summary>
/// Keeps writes to the same blocks apart when one of them has to read, change and write back a whole block. Whole-block
/// writes exclude only read-modify-writes; a read-modify-write excludes every other write to its blocks.
/// </summary>
internal sealed class UnalignedWrites(int alignment)
{
    private readonly Lock _lock = new();
    private readonly List<Ticket> _active = [];
    private readonly long _mask = -(long)alignment;
    private long _lastId;

    /// <summary>Waits until no conflicting write is under way, then enters.</summary>
    public async ValueTask<Ticket> EnterAsync(long offset, long count, bool modifies)
    {
        long from = offset & _mask;
        long end = offset + count - 1 | ~_mask;
        while (true)
        {
            Task wait;
            lock (_lock)
            {
                if (!TryFindConflict(from, end, modifies, out int conflict))
                {
                    var ticket = new Ticket(++_lastId, from, end, modifies, null);
                    _active.Add(ticket);
                    return ticket;
                }

                Ticket other = _active[conflict];
                TaskCompletionSource done = other.Done
                    ?? new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                _active[conflict] = other with { Done = done };
                wait = done.Task;
            }

            await wait.ConfigureAwait(false);
        }
    }

    /// <summary>Leaves, and wakes who waits for these blocks.</summary>
    public void Exit(Ticket ticket)
    {
        TaskCompletionSource? done = null;
        lock (_lock)
        {
            for (int i = 0; i < _active.Count; i++)
            {
                if (_active[i].Id == ticket.Id)
                {
                    done = _active[i].Done;
                    _active[i] = _active[^1];
                    _active.RemoveAt(_active.Count - 1);
                    break;
                }
            }
        }

        done?.TrySetResult();
    }

    private bool TryFindConflict(long from, long end, bool modifies, out int index)
    {
        for (index = 0; index < _active.Count; index++)
        {
            Ticket other = _active[index];
            if ((modifies || other.Modifies) && from <= other.End && other.From <= end)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>A write under way: its first and last byte after rounding to blocks.</summary>
    internal readonly record struct Ticket(long Id, long From, long End, bool Modifies, TaskCompletionSource? Done);
}
