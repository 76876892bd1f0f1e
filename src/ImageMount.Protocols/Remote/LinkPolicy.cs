namespace ImageMount.Protocols.Remote;

/// <summary>How patient a connection to a server is. Times that are zero: see each.</summary>
internal sealed record LinkPolicy
{
    /// <summary>`reconnect-delay`: how long requests wait while a lost connection is made again. Zero: they fail at once.</summary>
    public TimeSpan ReconnectDelay { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>`timeout`: how long a connection with unanswered requests may make no progress. Zero: for ever.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>`open-timeout`: how long the first connection is tried again when it fails. Zero: one try.</summary>
    public TimeSpan OpenTimeout { get; init; }

    /// <summary>Longest single try to connect, handshake and all.</summary>
    public TimeSpan TryTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Pause after the first failed try; it doubles up to <see cref="LongestPause"/>.</summary>
    public TimeSpan FirstPause { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Longest pause between tries.</summary>
    public TimeSpan LongestPause { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// After a server that had stalled is back: what it still had of the old connection gets this long to be done before
    /// anything is sent again, because a server that wakes up may still carry out what it had received.
    /// </summary>
    public TimeSpan Settle { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>Source of time.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;
}
