namespace ImageMount.Protocols.Iscsi;

/// <summary>What to do after an answer.</summary>
internal enum ScsiVerdict
{
    /// <summary>It was done.</summary>
    Done,

    /// <summary>Send it again, after a pause where it happens again and again.</summary>
    Again,

    /// <summary>The unit was reset: what it had not made durable may be gone, and has to be written again.</summary>
    Reset,

    /// <summary>It was refused.</summary>
    Refused,
}

/// <summary>
/// Whether and when a command is sent again that a target could not carry out just now: busy, full, attention, aborted.
/// It was not carried out then, so that sending it again is always safe.
/// </summary>
/// <param name="clock">Source of time.</param>
internal struct ScsiPatience(TimeProvider clock)
{
    /// <summary>So many times at once: each of several units attentions is told once.</summary>
    private const int FreeTries = 4;

    private static readonly TimeSpan s_firstPause = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan s_longestPause = TimeSpan.FromSeconds(1);

    private int _tries;
    private long _began;

    /// <summary>What an answer means.</summary>
    public static ScsiVerdict Judge(in IscsiOutcome outcome)
    {
        ScsiSense sense = outcome.Sense;
        return outcome.Status switch
        {
            0 => ScsiVerdict.Done,
            0x08 or 0x28 or 0x40 => ScsiVerdict.Again,
            2 when sense.Key == ScsiSense.UnitAttention => sense.Class == ScsiSense.Reset ? ScsiVerdict.Reset
                : sense.Code == ScsiSense.MediumChanged ? ScsiVerdict.Refused : ScsiVerdict.Again,
            2 when sense.Key == ScsiSense.AbortedCommand => ScsiVerdict.Again,
            2 when sense.Key == ScsiSense.NotReady
                && sense.Code is ScsiSense.BecomingReady or ScsiSense.SelfTest or ScsiSense.PathInTransition =>
                ScsiVerdict.Again,
            _ => ScsiVerdict.Refused,
        };
    }

    /// <summary>True: send it again, after the pause.</summary>
    /// <param name="limit">Longest that a command may be put off.</param>
    /// <param name="pause">How long.</param>
    public bool MayTryAgain(TimeSpan limit, out TimeSpan pause)
    {
        long now = clock.GetTimestamp();
        _began = _tries == 0 ? now : _began;
        int later = Math.Max(0, ++_tries - FreeTries);
        pause = later == 0 ? TimeSpan.Zero : s_firstPause * Math.Pow(2, Math.Min(later, 20));
        pause = pause < s_longestPause ? pause : s_longestPause;
        return clock.GetElapsedTime(_began, now) + pause <= limit;
    }
}
