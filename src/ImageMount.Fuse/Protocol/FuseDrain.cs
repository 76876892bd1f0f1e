using ImageMount.Fuse.Abi;

namespace ImageMount.Fuse.Protocol;

/// <summary>
/// Waits for the requests that are in flight now. Costs a request one volatile read while nobody waits: a completing
/// request leaves its place (full barrier) and then looks for waiters; a waiter announces itself (full barrier) and
/// then looks at the places. One of the two sees the other.
/// </summary>
internal sealed class FuseDrain(Func<IReadOnlyList<FuseRequest>> requests)
{
    private readonly Lock _lock = new();
    private readonly List<Waiter> _waiters = [];
    private int _waiting;

    /// <param name="exceptDestroy">Do not wait for DESTROY, which itself waits for this.</param>
    /// <param name="cancellationToken">Stops waiting.</param>
    public Task WaitAsync(bool exceptDestroy, CancellationToken cancellationToken)
    {
        var waiter = new Waiter();
        lock (_lock)
        {
            _waiters.Add(waiter);
            Interlocked.Increment(ref _waiting);
            foreach (FuseRequest place in requests())
            {
                ulong unique = place.InFlight;
                if (unique != 0 && !(exceptDestroy && place.Opcode == FuseOpcode.FUSE_DESTROY))
                {
                    waiter.Outstanding.Add((place, unique));
                }
            }
            // Whoever left before the look is not in the list; whoever leaves after it sees the announcement, and waits
            // for the lock to be taken off the list.
            Settle(waiter);
        }
        return waiter.Source.Task.WaitAsync(cancellationToken);
    }

    /// <summary>Request <paramref name="unique"/> has left <paramref name="place"/>.</summary>
    public void Completed(FuseRequest place, ulong unique)
    {
        if (Volatile.Read(ref _waiting) == 0)
        {
            return;
        }
        lock (_lock)
        {
            for (int i = _waiters.Count - 1; i >= 0; i--)
            {
                Waiter waiter = _waiters[i];
                if (waiter.Outstanding.Remove((place, unique)))
                {
                    Settle(waiter);
                }
            }
        }
    }

    private void Settle(Waiter waiter)
    {
        if (waiter.Outstanding.Count == 0)
        {
            _waiters.Remove(waiter);
            Interlocked.Decrement(ref _waiting);
            waiter.Source.TrySetResult();
        }
    }

    private sealed class Waiter
    {
        public List<(FuseRequest Place, ulong Unique)> Outstanding { get; } = [];

        public TaskCompletionSource Source { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
