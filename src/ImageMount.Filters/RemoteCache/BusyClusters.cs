namespace ImageMount.Filters.RemoteCache;

/// <summary>
/// Which clusters are being fetched, so that nobody fetches them a second time; and how many requests of the guest wait
/// for the server, so that the filler keeps out of their way.
/// </summary>
internal sealed class BusyClusters
{
    /// <summary>Most clusters of one claim: 1 MiB, and one more where a request begins in the middle.</summary>
    private const int MaxClaim = 17;

    private readonly Lock _lock = new();
    private readonly Dictionary<long, TaskCompletionSource> _busy = [];
    private int _guests;
    private TaskCompletionSource? _quiet;

    /// <summary>Counts a request in; disposing counts it out.</summary>
    public Visit Enter(bool isFiller)
    {
        if (!isFiller)
        {
            lock (_lock)
            {
                _guests++;
            }
        }

        return new Visit(isFiller ? null : this);
    }

    /// <summary>Completes when no request of the guest waits for the server.</summary>
    public Task WhenQuietAsync()
    {
        lock (_lock)
        {
            return _guests == 0 ? Task.CompletedTask
                : (_quiet ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
        }
    }

    /// <summary>
    /// Claims the first clusters of a range that nobody fetches: how many; 0: the first one is being fetched, until
    /// <paramref name="other"/> completes.
    /// </summary>
    public long TryClaim(long first, long last, out Task other)
    {
        lock (_lock)
        {
            if (_busy.TryGetValue(first, out TaskCompletionSource? busy))
            {
                other = busy.Task;
                return 0;
            }

            var mine = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            long next = first;
            while (next <= last && next - first < MaxClaim && _busy.TryAdd(next, mine))
            {
                next++;
            }

            other = Task.CompletedTask;
            return next - first;
        }
    }

    /// <summary>Gives back what was claimed.</summary>
    public void Release(long first, long count)
    {
        TaskCompletionSource? mine = null;
        lock (_lock)
        {
            for (long cluster = first; cluster < first + count; cluster++)
            {
                _busy.Remove(cluster, out mine);
            }
        }

        mine?.SetResult();
    }

    private void Leave()
    {
        TaskCompletionSource? quiet = null;
        lock (_lock)
        {
            if (--_guests == 0)
            {
                (quiet, _quiet) = (_quiet, null);
            }
        }

        quiet?.SetResult();
    }

    /// <summary>A request that is counted.</summary>
    public readonly struct Visit(BusyClusters? owner) : IDisposable
    {
        /// <inheritdoc/>
        public void Dispose() => owner?.Leave();
    }
}
