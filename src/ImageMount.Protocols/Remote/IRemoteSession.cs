using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>
/// A working connection to a server, or several that live and die together; what <see cref="RemoteLink{T}"/> keeps alive.
/// When it ends, by itself or aborted, every request that has no answer completes promptly, as lost.
/// </summary>
internal interface IRemoteSession
{
    /// <summary>Requests that wait for an answer now.</summary>
    int Outstanding { get; }

    /// <summary>Changes whenever anything moves: bytes sent or received. Read about once a second.</summary>
    long Progress { get; }

    /// <summary>Completes when the session cannot be used any more, with the reason. Never fails.</summary>
    Task<BlockException> Ended { get; }

    /// <summary>Ends it at once. Does not wait for the server; later calls do nothing.</summary>
    void Abort(BlockException reason);

    /// <summary>Says goodbye where the protocol has a word for it, and releases everything; within about a second.</summary>
    ValueTask CloseAsync();
}
