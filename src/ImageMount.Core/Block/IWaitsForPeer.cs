namespace ImageMount.Core.Block;

/// <summary>
/// Implemented by devices whose requests may wait for somebody else: a server that does not answer, a connection that is
/// being made again.
/// </summary>
public interface IWaitsForPeer
{
    /// <summary>
    /// The disk is about to be closed. From now on whoever waits for a peer that makes no progress gives up after
    /// <paramref name="grace"/>; work that does make progress goes on. Returns at once; may be called at any time, more
    /// than once.
    /// </summary>
    void StopWaiting(TimeSpan grace);
}
