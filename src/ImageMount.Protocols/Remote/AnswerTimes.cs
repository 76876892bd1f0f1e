using System.Diagnostics;

namespace ImageMount.Protocols.Remote;

/// <summary>
/// How soon a server answers: the least of the last few times from a request to its first byte, which waiting for each other
/// here or there does not blur. Thread-safe.
/// </summary>
internal sealed class AnswerTimes
{
    private const int Count = 64;

    /// <summary>
    /// Below this, a server counts as near: a window of 2 MiB is 4 Gbit/s then. Less would not do: a busy machine rarely
    /// answers itself within one millisecond.
    /// </summary>
    private static readonly long s_near = Stopwatch.Frequency * 4 / 1000;

    private readonly long[] _times = new long[Count];
    private int _next;

    /// <summary>An answer has begun to a request sent at a time of <see cref="Stopwatch"/>.</summary>
    public void Add(long sent)
    {
        uint at = (uint)Interlocked.Increment(ref _next) % Count;
        Volatile.Write(ref _times[at], Math.Max(1, Stopwatch.GetTimestamp() - sent));
    }

    /// <summary>True when the last few answers show that the server is near.</summary>
    public bool IsNear
    {
        get
        {
            for (int i = 0; i < Count; i++)
            {
                long time = Volatile.Read(ref _times[i]);
                if (time > 0 && time < s_near)
                {
                    return true;
                }
            }

            return false;
        }
    }
}
