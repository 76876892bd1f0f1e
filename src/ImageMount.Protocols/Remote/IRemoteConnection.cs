using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>One of the connections of a <see cref="ConnectionSet{T}"/>.</summary>
internal interface IRemoteConnection
{
    /// <summary>Requests that wait for an answer or for room.</summary>
    int Outstanding { get; }

    /// <summary>Changes when bytes move.</summary>
    long Progress { get; }

    /// <summary>Completes with the reason when the connection is over.</summary>
    Task<BlockException> Ended { get; }

    /// <summary>Ends it at once.</summary>
    void End(BlockException reason);

    /// <summary>Ends it in good order, within about a second.</summary>
    ValueTask CloseAsync();
}
