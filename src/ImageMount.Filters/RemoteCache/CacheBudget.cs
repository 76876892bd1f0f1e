namespace ImageMount.Filters.RemoteCache;

/// <summary>
/// How much of the cache may still be filled by this process. Each process looks at the folder now and then, removes
/// what is too much, and takes a part of what is left; so several together stay within the limit without talking to
/// each other.
/// </summary>
internal sealed class CacheBudget(CacheDirectory directory, long limit, TimeProvider clock)
{
    private const long MaxGrant = 64L << 20;

    /// <summary>When there is no room, that is not found out anew for every block.</summary>
    private static readonly TimeSpan s_lookAgain = TimeSpan.FromSeconds(10);

    private readonly Lock _lock = new();
    private long _granted;
    private bool _isFull;
    private long _fullSince;

    /// <summary>Most bytes.</summary>
    public long Limit => limit;

    /// <summary>Makes room at the beginning.</summary>
    public void Tidy()
    {
        lock (_lock)
        {
            directory.Shrink(limit);
        }
    }

    /// <summary>Takes room for some bytes; false: there is none.</summary>
    public bool TryTake(long bytes)
    {
        lock (_lock)
        {
            if (_granted < bytes)
            {
                if (_isFull && clock.GetElapsedTime(_fullSince) < s_lookAgain)
                {
                    return false;
                }

                // Room is made for some time ahead, as far as others leave any.
                long ahead = Math.Min(MaxGrant, limit / 8);
                long left = limit - directory.Shrink(limit - Math.Max(ahead, bytes));
                _granted = left < bytes ? 0 : Math.Max(bytes, Math.Min(MaxGrant, left / 2));
                _isFull = _granted == 0;
                _fullSince = clock.GetTimestamp();
                if (_isFull)
                {
                    return false;
                }
            }

            _granted -= bytes;
            return true;
        }
    }
}
