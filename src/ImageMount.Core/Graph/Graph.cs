using System.Runtime.ExceptionServices;
using ImageMount.Core.Block;
using ImageMount.Core.Info;

namespace ImageMount.Core.Graph;

/// <summary>
/// An open image: its top node, all nodes below, and what the user should know about how it was opened.
/// </summary>
public sealed class Graph : IAsyncDisposable
{
    private readonly GraphBuild _build;
    private readonly OpenedNode _root;
    private readonly Lock _lock = new();
    private readonly List<BlockNode> _snapshots = [];
    private bool _isClosed;

    internal Graph(GraphBuild build, OpenedNode root)
    {
        _build = build;
        _root = root;
        Nodes = [.. build.Nodes.Select(opened => opened.Node)];
    }

    /// <summary>The disk as the guest sees it.</summary>
    public BlockNode Root => _root.Node;

    /// <summary>
    /// The format node that holds the image's own structures: the root, or the first node below filters. What `info`,
    /// `check` and snapshots are about.
    /// </summary>
    public BlockNode Image => BelowFilters().Image.Node;

    /// <summary>All nodes; each stands after the nodes that it uses.</summary>
    public IReadOnlyList<BlockNode> Nodes { get; }

    /// <summary>What is not an error, but should be told, once each.</summary>
    public IReadOnlyList<string> Warnings => _build.Warnings();

    /// <summary>
    /// Hears of what is added to <see cref="Warnings"/> from now on, while the image is in use; from any thread.
    /// </summary>
    public Action<string>? WarningListener
    {
        get => _build.Listener;
        set => _build.Listener = value;
    }

    /// <summary>Path or URI of the image's own file, without secrets; null when it has none.</summary>
    public string? Location => _root.Location;

    /// <summary>The image's internal snapshots; empty for formats that have none.</summary>
    public IReadOnlyList<SnapshotInfo> Snapshots =>
        Image.Device is ISnapshotSource source ? source.Snapshots : [];

    /// <summary>
    /// Opens an internal snapshot, found by id, else by name, as a read-only node. The graph closes it at the latest;
    /// whoever opened it may close it earlier.
    /// </summary>
    public async ValueTask<BlockNode> OpenSnapshotAsync(string nameOrId, CancellationToken cancellationToken = default)
    {
        (OpenedNode image, Stack<OpenedNode> filters) = BelowFilters();
        if (image.Node.Device is not ISnapshotSource source)
        {
            throw Stamped(image.Node, new BlockException(
                BlockErrorKind.NotSupported, $"images of format '{image.Driver.Name}' have no internal snapshots"));
        }

        SnapshotInfo snapshot = Find(source.Snapshots, nameOrId, image.Node);
        try
        {
            BlockDevice device = await source.OpenSnapshotAsync(snapshot, cancellationToken).ConfigureAwait(false);
            BlockNode node = await KeepAsync(new BlockNode(
                $"{image.Node.Name}@{snapshot.Name}", image.Driver.Name, device, new NodeOptions { ReadOnly = true }))
                .ConfigureAwait(false);
            while (filters.TryPop(out OpenedNode? filter))
            {
                node = await KeepAsync(await ReapplyAsync(filter, node, cancellationToken).ConfigureAwait(false))
                    .ConfigureAwait(false);
            }

            return node;
        }
        catch (BlockException e)
        {
            e.Stamp(image.Node.Name, null);
            throw;
        }
    }

    /// <summary>
    /// Flushes, then closes every node, users before what they use. All are closed whatever happens; the first failure
    /// is thrown at the end. Later calls do nothing.
    /// </summary>
    public async ValueTask CloseAsync()
    {
        lock (_lock)
        {
            if (_isClosed)
            {
                return;
            }

            _isClosed = true;
        }

        ExceptionDispatchInfo? failure = null;
        try
        {
            if (Root.CanWrite)
            {
                await Root.FlushAsync().ConfigureAwait(false);
            }
        }
        catch (BlockException e)
        {
            failure = ExceptionDispatchInfo.Capture(e);
        }

        foreach (BlockNode node in Nodes.Concat(_snapshots).Reverse())
        {
            try
            {
                await node.CloseAsync().ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                failure ??= ExceptionDispatchInfo.Capture(e);
            }
        }

        failure?.Throw();
    }

    /// <summary>
    /// The graph is about to be closed: requests that wait for a server which makes no progress fail after
    /// <paramref name="grace"/>, so that nothing holds up the end (<see cref="IWaitsForPeer"/>).
    /// </summary>
    public void StopWaiting(TimeSpan grace)
    {
        foreach (BlockNode node in Nodes)
        {
            (node.Device as IWaitsForPeer)?.StopWaiting(grace);
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => CloseAsync();

    private static SnapshotInfo Find(IReadOnlyList<SnapshotInfo> snapshots, string nameOrId, BlockNode node)
    {
        SnapshotInfo? found = snapshots.FirstOrDefault(snapshot => snapshot.Id == nameOrId);
        if (found is not null)
        {
            return found;
        }

        SnapshotInfo[] named = [.. snapshots.Where(snapshot => snapshot.Name == nameOrId)];
        string Show(IEnumerable<SnapshotInfo> list) =>
            string.Join(", ", list.Take(20).Select(s => $"{s.Id} '{References.Shorten(s.Name)}'"));
        return named.Length switch
        {
            1 => named[0],
            0 => throw Stamped(node, new BlockException(
                BlockErrorKind.NotFound, $"there is no snapshot '{References.Shorten(nameOrId)}'")
            {
                Hint = snapshots.Count == 0 ? "The image has none." : $"There are: {Show(snapshots)}.",
            }),
            _ => throw Stamped(node, new BlockException(
                BlockErrorKind.InvalidArgument, $"several snapshots are called '{References.Shorten(nameOrId)}'")
            {
                Hint = $"Name one by its id: {Show(named)}.",
            }),
        };
    }

    private static BlockException Stamped(BlockNode node, BlockException e)
    {
        e.Stamp(node.Name, null);
        return e;
    }

    /// <summary>
    /// The image, and the filters above it that must stand above its snapshots too, the lowest on top.
    /// </summary>
    private (OpenedNode Image, Stack<OpenedNode> Filters) BelowFilters()
    {
        var filters = new Stack<OpenedNode>();
        OpenedNode at = _root;
        while (at.Driver.Kind == DriverKind.Filter && at.File is not null && at.Node.Device is not ISnapshotSource)
        {
            // What never writes below keeps changes of its own; a snapshot has none.
            if (at.Driver.WritesFile)
            {
                filters.Push(at);
            }

            at = at.File;
        }

        return (at, filters);
    }

    private async ValueTask<BlockNode> ReapplyAsync(
        OpenedNode filter, BlockNode node, CancellationToken cancellationToken)
    {
        Frame frame = Frame.Enter(null, isTyped: true);
        frame.File = filter with { Node = node };
        var request = new NodeRequest { Options = new Options.OptionMap(), Flags = new OpenFlags() };
        var context = new GraphContext(_build, request, frame, node.Name);
        BlockDevice device = await filter.Driver.OpenAsync(context, filter.Options, cancellationToken)
            .ConfigureAwait(false);
        return new BlockNode(node.Name, filter.Driver.Name, device, new NodeOptions { ReadOnly = true });
    }

    private async ValueTask<BlockNode> KeepAsync(BlockNode node)
    {
        lock (_lock)
        {
            if (!_isClosed)
            {
                _snapshots.Add(node);
                return node;
            }
        }

        await node.CloseAsync().ConfigureAwait(false);
        throw new InvalidOperationException("the graph is closed");
    }
}
