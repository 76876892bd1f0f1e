using System.Net.Sockets;
using ImageMount.Core.Block;

namespace ImageMount.Core.Graph;

/// <summary>
/// Puts the <see cref="IRemoteLayer"/> over protocol nodes, or in the place of one whose server is away.
/// </summary>
internal sealed class RemoteNodes(IRemoteLayer layer, string key, string name, Action<string> warn)
{
    private const string Driver = "remote-cache";

    /// <summary>For a node; null when nothing is to be put over it.</summary>
    public static RemoteNodes? For(
        NodeRequest request, BlockDriver driver, object options, string name, Action<string> warn) =>
        request.Flags.RemoteLayer is { } layer && driver.RemoteKey(options) is { } key
            ? new RemoteNodes(layer, key, name, text => warn($"{name}: {text}")) : null;

    /// <summary>The node to use instead of one that is open; null: that one.</summary>
    public BlockNode? Over(BlockNode node)
    {
        if (node.CanWrite)
        {
            // A version that we change ourselves between two looks is none. Writers go to the server, without a cache.
            layer.Forget(key, warn);
            warn("it may be written, so nothing of it is kept in the remote cache");
            return null;
        }

        return layer.TryOpenOver(key, node, warn) is { } device ? Make(device) : null;
    }

    /// <summary>
    /// The node to use instead of one that cannot be opened because its server is away; null: there is none.
    /// </summary>
    /// <exception cref="BlockException">There would be one for reading.</exception>
    public BlockNode? InsteadOf(BlockException why, OpenFlags flags)
    {
        if (!IsAway(why))
        {
            return null;
        }

        if (flags.Writable && layer.Knows(key))
        {
            throw new BlockException(why.Kind, why.Message, why)
            {
                Hint = "The remote cache knows it: with --read-only, what is there can be seen.",
            };
        }

        return flags.Writable ? null : layer.TryOpenAlone(key, why, warn) is { } device ? Make(device) : null;
    }

    private BlockNode Make(BlockDevice device) => new(name, Driver, device, new NodeOptions { ReadOnly = true });

    /// <summary>
    /// Whether the server could not be reached. One that answers, and says that there is no such file or that it must
    /// not be read, is not away; neither is one that cannot prove who it is.
    /// </summary>
    private static bool IsAway(BlockException e)
    {
        if (e.Kind is BlockErrorKind.IoError or BlockErrorKind.TimedOut)
        {
            return true;
        }

        Exception? at = e.InnerException;
        for (int depth = 0; at is not null && depth < 10; depth++, at = at.InnerException)
        {
            if (at is SocketException)
            {
                return e.Kind == BlockErrorKind.NotFound; // No such host.
            }
        }

        return false;
    }
}
