using System.Diagnostics;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// Whether a worker should look for the next request a few times before it sleeps. Waking a sleeper costs more than a
/// small read does where processors are virtual (measured: 4 KiB random reads by one job 34 k a second without, 49 k
/// with), but looking in vain takes time from whoever else could use the processor. So it is done only while it pays:
/// every hit earns credit, every miss costs some, and without credit nothing is tried before many requests in a row
/// came soon after the last reply.
/// </summary>
internal struct SpinGauge
{
    private const int MaxCredit = 64;
    private const int MissCost = 4;
    private const int FirstStreak = 16;
    private const int LongestStreak = 4096;

    private int _credit;
    private int _streak;
    private int _streakNeeded;

    public SpinGauge()
    {
        _streakNeeded = FirstStreak;
    }

    /// <summary>How long to look, in ticks of the stopwatch: 20 µs.</summary>
    public static long Budget { get; } = Stopwatch.Frequency / 50_000;

    /// <summary>A request this soon after the last reply (60 µs, waking included) might have been met by looking.</summary>
    private static readonly long s_soon = Stopwatch.Frequency / 16_000;

    /// <summary>True while looking pays.</summary>
    public readonly bool IsWorthIt => _credit > 0;

    /// <summary>Looking found a request.</summary>
    public void Hit()
    {
        if (++_credit >= MaxCredit)
        {
            _credit = MaxCredit;
            _streakNeeded = FirstStreak;
        }
    }

    /// <summary>Looking found nothing.</summary>
    public void Miss()
    {
        _credit -= MissCost;
        if (_credit <= 0)
        {
            _streakNeeded = Math.Min(2 * _streakNeeded, LongestStreak);
            _streak = 0;
        }
    }

    /// <summary>A sleeping wait ended so long after the last reply.</summary>
    public void Slept(long ticks)
    {
        _streak = ticks <= s_soon ? _streak + 1 : 0;
        if (_streak >= _streakNeeded)
        {
            _streak = 0;
            _credit = MaxCredit / 4;
        }
    }
}
