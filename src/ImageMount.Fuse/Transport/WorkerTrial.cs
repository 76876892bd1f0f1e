namespace ImageMount.Fuse.Transport;

/// <summary>
/// Whether one more worker helps is not to be foreseen: on one kind of machine two workers served four busy jobs twice as
/// fast as one, on another a sixth slower. So it is tried: rate before, one more, rate after, and the worker goes again
/// unless the rate rose. A trial that failed is not repeated for a while, longer every time. Pure bookkeeping: told of
/// every period by whoever counts, and of nothing else.
/// </summary>
internal sealed class WorkerTrial
{
    /// <summary>How much more there must be for one more worker to stay.</summary>
    private const double Gain = 1.12;
    private const int Periods = 3;
    private const int LongestRest = 256;

    private readonly long[] _rates = new long[Periods];
    private Phase _phase;
    private int _count;
    private long _before;
    private int _rest;
    private int _nextRest = 8;

    private enum Phase
    {
        Resting,
        Before,
        Settling,
        After,
    }

    /// <summary>What to do about the number of workers.</summary>
    public enum Verdict
    {
        /// <summary>Leave it.</summary>
        Keep,

        /// <summary>One more.</summary>
        Grow,

        /// <summary>One less.</summary>
        Shrink,
    }

    /// <summary>A period of constant length is over.</summary>
    /// <param name="requests">Requests answered in it.</param>
    /// <param name="wantsHelp">A worker always found the next request waiting.</param>
    /// <param name="disturbed">The number of workers changed for another reason: what is being measured means nothing.</param>
    public Verdict Next(long requests, bool wantsHelp, bool disturbed)
    {
        if (disturbed && _phase != Phase.Resting)
        {
            _phase = Phase.Resting;
            _rest = 0;
            return Verdict.Keep;
        }

        switch (_phase)
        {
            case Phase.Resting:
                _rest = Math.Max(0, _rest - 1);
                if (wantsHelp && _rest == 0)
                {
                    Begin(Phase.Before);
                }
                return Verdict.Keep;
            case Phase.Before:
                if (!Measure(requests))
                {
                    return Verdict.Keep;
                }
                _before = Median();
                _phase = wantsHelp ? Phase.Settling : Phase.Resting;
                return wantsHelp ? Verdict.Grow : Verdict.Keep;
            case Phase.Settling:
                Begin(Phase.After);
                return Verdict.Keep;
            default:
                if (!Measure(requests))
                {
                    return Verdict.Keep;
                }
                _phase = Phase.Resting;
                if (Median() >= _before * Gain)
                {
                    _rest = 0;
                    _nextRest = 8;
                    return Verdict.Keep;
                }
                _rest = _nextRest;
                _nextRest = Math.Min(2 * _nextRest, LongestRest);
                return Verdict.Shrink;
        }
    }

    private void Begin(Phase phase)
    {
        _phase = phase;
        _count = 0;
    }

    private bool Measure(long requests)
    {
        _rates[_count++] = requests;
        return _count == Periods;
    }

    private long Median()
    {
        Array.Sort(_rates);
        return _rates[Periods / 2];
    }
}
