namespace ImageMount.Core.Block;

/// <summary>
/// Implemented by devices of servers: what tells one state of their bytes from another, so that they can be kept from
/// one mount to the next. Deliberately small: a cache needs a version, and to know whether what it has read belongs to
/// it.
/// </summary>
public interface IRemoteFile
{
    /// <summary>The state that is open; null when the protocol has nothing that tells states apart.</summary>
    RemoteVersion? Version { get; }

    /// <summary>
    /// True when every read either gives bytes of <see cref="Version"/> or fails; then nobody need ask
    /// <see cref="IsUnchangedAsync"/>.
    /// </summary>
    bool ChecksEveryRead { get; }

    /// <summary>
    /// True when reading on where the last read ended costs much less than reading anywhere else; fixed at open.
    /// </summary>
    bool PrefersOrder => false;

    /// <summary>
    /// Asks the server whether the bytes are still those of <see cref="Version"/>. False: they are not, or nobody
    /// knows.
    /// </summary>
    /// <exception cref="BlockException">The server does not answer.</exception>
    ValueTask<bool> IsUnchangedAsync(CancellationToken cancellationToken);
}

/// <summary>One state of the bytes of a server.</summary>
/// <param name="Text">Equal exactly for the same state of the same file: 'ETag "5f3c"', "modified 2026-01-01
/// 00:00:00Z".</param>
/// <param name="IsStrong">The server says that no two states have the same text. Else it is a time with a grain: a file
/// that was modified just now may be modified again without getting another one.</param>
/// <param name="Modified">That time; null where there is none.</param>
public sealed record RemoteVersion(string Text, bool IsStrong, DateTimeOffset? Modified = null);
