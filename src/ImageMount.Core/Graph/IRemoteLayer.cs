using ImageMount.Core.Block;

namespace ImageMount.Core.Graph;

/// <summary>
/// What the graph puts right above each protocol node whose bytes a server has (<see cref="BlockDriver.RemoteKey"/>),
/// where <see cref="OpenFlags.RemoteLayer"/> asks for it. It is no driver of its own, because it must also be there
/// when the node below cannot be opened.
/// </summary>
public interface IRemoteLayer
{
    /// <summary>
    /// A device over a node that is open for reading; it does not close the node. Null: there is none for this node,
    /// and the user was told why.
    /// </summary>
    /// <param name="key">What <see cref="BlockDriver.RemoteKey"/> gave.</param>
    /// <param name="node">The protocol node.</param>
    /// <param name="warn">Tells the user something, now or while the device is in use.</param>
    BlockDevice? TryOpenOver(string key, BlockNode node, Action<string> warn);

    /// <summary>A device with what is known of bytes whose server cannot be reached; null when nothing is.</summary>
    /// <param name="key">What <see cref="BlockDriver.RemoteKey"/> gave.</param>
    /// <param name="why">Why it cannot be reached.</param>
    /// <param name="warn">Tells the user something.</param>
    BlockDevice? TryOpenAlone(string key, BlockException why, Action<string> warn);

    /// <summary>True when <see cref="TryOpenAlone"/> would give something.</summary>
    bool Knows(string key);

    /// <summary>The bytes are about to be changed by this program: nothing of them is to be kept.</summary>
    void Forget(string key, Action<string> warn);
}
