using System.Diagnostics;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Fuse;
using ImageMount.Mounting.Partitions;
using ImageMount.Mounting.Reports;
using ImageMount.Mounting.Tree;
using MountPoint = ImageMount.Fuse.Mount.MountPoint;

namespace ImageMount.Mounting.Fuse;

/// <summary>
/// One mounted disk: tree, file system and session put together. Does not own the graph: whoever opened that closes it
/// when <see cref="WaitAsync"/> has completed.
/// </summary>
public sealed class FuseMount
{
    private readonly Graph _graph;
    private readonly DiskFileSystem _fileSystem;
    private readonly long _started = Stopwatch.GetTimestamp();

    private FuseMount(Graph graph, MountTree tree, DiskFileSystem fileSystem)
    {
        _graph = graph;
        _fileSystem = fileSystem;
        Tree = tree;
    }

    /// <summary>The files.</summary>
    public MountTree Tree { get; }

    /// <summary>The session; set when mounted.</summary>
    public FuseSession Session { get; private set; } = null!; // null only until MountAsync returns

    /// <summary>Mounts the top node of a graph. When this returns, the mount can be used.</summary>
    /// <param name="graph">Opened to match <see cref="FuseMountOptions.Cache"/> and <see
    /// cref="FuseMountOptions.ReadOnly"/>.</param>
    /// <param name="mountPoint">A directory, or a regular file that is to become the disk.</param>
    /// <param name="options">How.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException">The partition table cannot be read.</exception>
    /// <exception cref="ImageMount.Fuse.Mount.FuseMountException">It cannot be mounted there.</exception>
    public static async Task<FuseMount> MountAsync(
        Graph graph, string mountPoint, FuseMountOptions options, CancellationToken cancellationToken = default)
    {
        options = options with
        {
            ReadOnly = options.ReadOnly || !graph.Root.CanWrite,
            BeforeFirstOpen = options.BeforeFirstOpen ?? RefreshOf(graph, options.Warning),
        };
        bool isFile = MountPoint.Check(mountPoint, options.AllowNonEmpty).IsFile;
        FuseMount? mount = null;
        MountTree tree = await MountTree.CreateAsync(
            graph.Root,
            new MountTreeOptions
            {
                Policy = new DiskFilePolicy(options.ReadOnly, options.Growable, options.Discard),
                IsSingleFile = isFile,
                Snapshots = graph.Snapshots,
                OpenSnapshot = (snapshot, token) => graph.OpenSnapshotAsync(snapshot.Id, token),
                Reports =
                [
                    ("info.json", () => mount!.InfoAsync()),
                    ("map.json", () => MapReport.JsonAsync(graph.Root, 0, graph.Root.Length)),
                    ("stats.json", () => mount!.StatsAsync()),
                    .. CommitReports(graph),
                ],
            },
            cancellationToken).ConfigureAwait(false);
        var fileSystem = new DiskFileSystem(tree, options);
        mount = new FuseMount(graph, tree, fileSystem);
        mount.Session = await FuseSession
            .MountAsync(mountPoint, fileSystem, mount.SessionOptions(options), cancellationToken)
            .ConfigureAwait(false);
        if (isFile && mount.Session.Info.WritebackCache)
        {
            await TellSizeAsync(mount.Session.MountPoint, graph.Root.Length).ConfigureAwait(false);
        }

        return mount;
    }

    /// <summary>Completes when the mount is gone, whoever unmounted it, and no request is in flight.</summary>
    public Task WaitAsync() => Session.WaitAsync();

    /// <summary>
    /// From now on every request fails, so that the graph can be closed although the connection stands.
    /// </summary>
    public void CutOff() => _fileSystem.CutOff();

    /// <summary>What looks again at what the devices show, where the user wants that; else null.</summary>
    private static Func<ValueTask>? RefreshOf(Graph graph, Action<string, Exception?>? warning)
    {
        IRefreshable[] devices =
            [.. graph.Nodes.Select(node => node.Device).OfType<IRefreshable>().Where(device => device.WantsRefresh)];
        return devices.Length == 0 ? null : RefreshAllAsync;

        async ValueTask RefreshAllAsync()
        {
            foreach (IRefreshable device in devices)
            {
                try
                {
                    await device.RefreshAsync(CancellationToken.None).ConfigureAwait(false);
                }
                catch (BlockException e)
                {
                    warning?.Invoke("looking again failed; what is shown is what was there before", e);
                }
            }
        }
    }

    /// <summary>A report of how far what was written is in its place, where the disk stands for something else.</summary>
    private static IEnumerable<(string Name, Func<IAsyncEnumerable<ReadOnlyMemory<byte>>> Content)> CommitReports(
        Graph graph) =>
        graph.Root.CanWrite && graph.Nodes.Select(node => node.Device).OfType<Core.Info.ICommittable>().FirstOrDefault()
            is { } device
            ? [(CommitJson.FileName, () => CommitJson.ReportAsync(device))]
            : [];

    /// <summary>
    /// With delayed writes the kernel itself owns the size of a file, from the moment it first hears of it; and of a
    /// root inode that is a file it hears nothing at first, and assumes 0. Only a truncate makes it take over a size.
    /// </summary>
    private static Task TellSizeAsync(string path, long length) => Task.Run(() =>
    {
        using Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(path, access: FileAccess.Write);
        RandomAccess.SetLength(file, length);
    });

    private FuseSessionOptions SessionOptions(FuseMountOptions options) => new()
    {
        FsName = options.FsName,
        ReadOnly = options.ReadOnly,
        AllowOther = options.AllowOther,
        AllowNonEmpty = options.AllowNonEmpty,
        Workers = options.Workers,
        Transport = options.Transport,
        WritebackCache = options.Cache.DelaysWrites() && !_fileSystem.WantsPassthrough,
        Passthrough = _fileSystem.WantsPassthrough,
        AtomicTruncate = false, // O_TRUNC is to leave the disk's size alone
        Warning = options.Warning,
        Tracer = options.Tracer,
    };

    private async IAsyncEnumerable<ReadOnlyMemory<byte>> InfoAsync()
    {
        Core.Info.DeviceInfo info = await InfoReport.DescribeAsync(_graph.Image, CancellationToken.None)
            .ConfigureAwait(false);
        PartitionTable table = Tree.Partitions;
        yield return ReportJson.Make(
            json => InfoReport.Write(json, info, more => InfoReport.WritePartitions(more, table)));
    }

    private async IAsyncEnumerable<ReadOnlyMemory<byte>> StatsAsync()
    {
        await Task.CompletedTask.ConfigureAwait(false);
        yield return ReportJson.Make(json => StatsReport.Write(
            json, _fileSystem.Statistics, Session?.Counters ?? default, Session?.Transport ?? FuseTransportKind.Threads,
            Stopwatch.GetElapsedTime(_started), _fileSystem.OpenFiles));
    }
}
