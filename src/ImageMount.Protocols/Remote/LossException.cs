using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>A request that may succeed when it is sent again.</summary>
internal sealed class LossException(BlockException reason) : Exception(reason.Message, reason)
{
    /// <summary>What to tell when it is not sent again.</summary>
    public BlockException Reason { get; } = reason;

    /// <summary>The server answered, that it cannot now; the connections are good.</summary>
    public bool IsAnswer { get; init; }

    /// <summary>How long the server wants to be left alone, or null.</summary>
    public TimeSpan? Pause { get; init; }
}
