using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Mounting.Partitions;

namespace ImageMount.Mounting.Tree;

/// <summary>What a tree is made of.</summary>
public sealed record MountTreeOptions
{
    /// <summary>What may be done with the disk.</summary>
    public DiskFilePolicy Policy { get; init; }

    /// <summary>Show the disk alone, as the root: the mount point is a regular file.</summary>
    public bool IsSingleFile { get; init; }

    /// <summary>The image's internal snapshots.</summary>
    public IReadOnlyList<SnapshotInfo> Snapshots { get; init; } = [];

    /// <summary>Opens one of them as a read-only node, which somebody else closes.</summary>
    public Func<SnapshotInfo, CancellationToken, ValueTask<BlockNode>>? OpenSnapshot { get; init; }

    /// <summary>Files of .imgmount by name, each with what makes its text.</summary>
    public IReadOnlyList<TreeReport> Reports { get; init; } = [];
}

/// <summary>
/// The files that a mount shows: disk.raw, p1…pN, snapshots/NAME/…, .imgmount/…, or the disk alone. The partition table
/// is read once, when the tree is made; partitions created later appear at the next mount (as a kernel shows them only
/// after the table is read again).
/// </summary>
public sealed class MountTree
{
    /// <summary>Name of the disk's file.</summary>
    public const string DiskName = "disk.raw";

    private readonly Lock _lock = new();
    private readonly MountTreeOptions _options;
    private TreeNode[] _nodes = new TreeNode[16];
    private int _count;

    private MountTree(MountTreeOptions options) => _options = options;

    /// <summary>Node 1: a directory, or the disk itself.</summary>
    public TreeNode Root { get; private set; } = null!;

    /// <summary>The whole disk.</summary>
    public DiskFile Disk { get; private set; } = null!;

    /// <summary>The disk and its partitions: all files over the same bytes.</summary>
    public IReadOnlyList<DiskFile> DiskFiles { get; private set; } = [];

    /// <summary>The disk's partition table.</summary>
    public PartitionTable Partitions { get; private set; } = PartitionTable.Empty;

    /// <summary>Number of nodes so far.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>Makes the tree of a disk. Reads the partition table unless the disk is shown alone.</summary>
    /// <exception cref="BlockException">The table cannot be read.</exception>
    public static async ValueTask<MountTree> CreateAsync(
        BlockNode disk, MountTreeOptions options, CancellationToken cancellationToken = default)
    {
        var tree = new MountTree(options);
        if (options.IsSingleFile)
        {
            tree.Disk = new DiskFile("", null, disk, options.Policy);
            tree.Root = tree.Disk;
            tree.DiskFiles = [tree.Disk];
            tree.Adopt(tree.Disk);
            return tree;
        }

        tree.Partitions = await PartitionScanner.ScanAsync(disk, cancellationToken).ConfigureAwait(false);
        var root = new TreeDirectory("", null);
        tree.Root = root;
        tree.Adopt(root);
        IReadOnlyList<DiskFile> files = tree.MakeDiskFiles(root, disk, tree.Partitions, options.Policy);
        tree.Disk = files[0];
        tree.DiskFiles = files;
        var entries = new List<TreeNode>(files);
        if (tree.MakeSnapshots(root) is { } snapshots)
        {
            entries.Add(snapshots);
        }

        if (options.Reports.Count > 0)
        {
            entries.Add(tree.MakeReports(root, options.Reports));
        }

        root.SetEntries(entries);
        return tree;
    }

    /// <summary>The node of this number, or null.</summary>
    public TreeNode? Find(ulong id)
    {
        TreeNode[] nodes = Volatile.Read(ref _nodes);
        ulong index = id - 1;
        return index < (ulong)nodes.Length ? nodes[index] : null;
    }

    private T Adopt<T>(T node)
        where T : TreeNode
    {
        lock (_lock)
        {
            TreeNode[] nodes = _nodes;
            if (_count == nodes.Length)
            {
                Array.Resize(ref nodes, nodes.Length * 2);
            }

            nodes[_count++] = node;
            node.Id = (ulong)_count;
            Volatile.Write(ref _nodes, nodes);
            return node;
        }
    }

    private List<DiskFile> MakeDiskFiles(
        TreeDirectory parent, BlockNode disk, PartitionTable table, DiskFilePolicy policy)
    {
        List<DiskFile> files = [Adopt(new DiskFile(DiskName, parent, disk, policy))];
        foreach (Partition partition in table.Partitions)
        {
            string name = string.Create(CultureInfo.InvariantCulture, $"p{partition.Number}");
            files.Add(Adopt(new DiskFile(name, parent, disk, policy, partition.Offset, partition.Size)));
        }

        return files;
    }

    private TreeDirectory MakeReports(TreeDirectory root, IReadOnlyList<TreeReport> reports)
    {
        TreeDirectory directory = Adopt(new TreeDirectory(".imgmount", root));
        directory.SetEntries([.. reports.Select(r => Adopt(new ReportFile(r.Name, directory, r)))]);
        return directory;
    }

    private TreeDirectory? MakeSnapshots(TreeDirectory root)
    {
        if (_options.Snapshots.Count == 0 || _options.OpenSnapshot is null)
        {
            return null;
        }

        TreeDirectory directory = Adopt(new TreeDirectory("snapshots", root));
        IReadOnlyList<string> names = SnapshotNames.Make(_options.Snapshots);
        directory.SetEntries([.. _options.Snapshots.Select((snapshot, i) => Adopt(new TreeDirectory(
            names[i], directory, (self, cancellationToken) => OpenSnapshotAsync(self, snapshot, cancellationToken))))]);
        return directory;
    }

    private async ValueTask<IReadOnlyList<TreeNode>> OpenSnapshotAsync(
        TreeDirectory directory, SnapshotInfo snapshot, CancellationToken cancellationToken)
    {
        BlockNode node = await _options.OpenSnapshot!(snapshot, cancellationToken).ConfigureAwait(false);
        PartitionTable table = await PartitionScanner.ScanAsync(node, cancellationToken).ConfigureAwait(false);
        return MakeDiskFiles(directory, node, table, _options.Policy with { ReadOnly = true });
    }
}
