using System.Globalization;
using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Volume;

/// <summary>
/// Reads a FAT volume whole and believes none of it: the answer is its tree, or what is wrong with it. A volume that
/// somebody is in the middle of changing looks damaged too (lost clusters, copies of the FAT that differ), and that
/// is why everything counts here that a checker would call harmless: what is not right now may be half of something.
/// Reading takes three steps: boot sector and FAT[0], FAT[1]; folders from the root on, breadth first, with every
/// chain that an entry begins; the whole FAT, for clusters that nothing leads to.
/// Nothing recurses, every cluster is visited once, and memory is in proportion to entries and pieces of files.
/// </summary>
internal sealed class VolumeReader
{
    /// <summary>Most files and folders.</summary>
    public const int MaxNodes = 4 << 20;

    /// <summary>Most pieces of all files together.</summary>
    public const int MaxRuns = 16 << 20;

    /// <summary>Deepest folder.</summary>
    public const int MaxDepth = 1024;

    private readonly IDiskReader _disk;
    private readonly VolumeGeometry _geometry;
    private readonly FatTable _fat;
    private readonly VolumeFindings _findings = new();
    private readonly List<VolumeNode> _nodes = [];
    private readonly List<ClusterRun> _runs = [];
    private readonly ulong[] _used;
    private long _runCount;

    private VolumeReader(IDiskReader disk, VolumeGeometry geometry)
    {
        _disk = disk;
        _geometry = geometry;
        _fat = new FatTable(disk, geometry);
        _used = new ulong[(geometry.EndCluster + 63) / 64];
    }

    /// <summary>Reads a volume.</summary>
    /// <param name="disk">The disk.</param>
    /// <param name="offset">Where the volume begins.</param>
    /// <param name="length">Bytes that it may have.</param>
    /// <param name="expected">How the volume is laid out; a different one is a finding. Null where that is not
    /// known.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="Core.Block.BlockException">The disk cannot be read.</exception>
    public static async ValueTask<VolumeReading> ReadAsync(
        IDiskReader disk, long offset, long length, VolumeGeometry? expected, CancellationToken cancellationToken)
    {
        var findings = new VolumeFindings();
        if (offset < 0 || length < FatLayout.SectorSize || offset > disk.Length - length)
        {
            findings.Add(FindingKind.Geometry, "the disk is too small for a FAT volume", null, offset);
            return new VolumeReading(null, findings);
        }

        byte[] sector = new byte[FatLayout.SectorSize];
        await disk.ReadAsync(offset, sector, cancellationToken).ConfigureAwait(false);
        var geometry = VolumeGeometry.Parse(sector, offset, length, out bool isDirty, out string problem);
        if (geometry is null)
        {
            findings.Add(FindingKind.Geometry, problem, null, offset);
        }
        else if (expected is not null && geometry != expected)
        {
            findings.Add(
                FindingKind.Geometry, "the volume was formatted anew (its layout or its id is another one)", null,
                offset);
        }
        else if (isDirty)
        {
            findings.Add(
                FindingKind.Dirty, "the volume is in use, or was not unmounted properly (boot sector)", null, offset);
        }
        else
        {
            return await new VolumeReader(disk, geometry).ReadAsync(cancellationToken).ConfigureAwait(false);
        }

        return new VolumeReading(null, findings);
    }

    private async ValueTask<VolumeReading> ReadAsync(CancellationToken cancellationToken)
    {
        string? label = null;
        if (await CheckMarksAsync(cancellationToken).ConfigureAwait(false)
            && await ReadRootAsync(cancellationToken).ConfigureAwait(false))
        {
            label = await ReadFoldersAsync(cancellationToken).ConfigureAwait(false);
            if (_findings.Count == 0)
            {
                await CheckWholeFatAsync(cancellationToken).ConfigureAwait(false);
            }
        }

        return new VolumeReading(
            _findings.Count == 0 ? new VolumeTree(_geometry, _nodes, label) : null, _findings);
    }

    /// <summary>FAT[0] and FAT[1] ("FAT Data Structure"): media byte, and whether the volume was unmounted.</summary>
    private async ValueTask<bool> CheckMarksAsync(CancellationToken cancellationToken)
    {
        uint media = await _fat.GetAsync(0, cancellationToken).ConfigureAwait(false);
        uint marks = await _fat.GetAsync(1, cancellationToken).ConfigureAwait(false);
        if ((byte)media != _geometry.Media)
        {
            _findings.Add(
                FindingKind.Geometry, "FAT[0] does not name the medium of the boot sector", null, _fat.OffsetOf(0));
        }

        (uint clean, uint good) = _geometry.Type switch
        {
            FatType.Fat16 => (FatLayout.CleanShutdown16, FatLayout.NoHardError16),
            FatType.Fat32 => (FatLayout.CleanShutdown32, FatLayout.NoHardError32),
            _ => (0u, 0u),
        };
        if ((marks & clean) != clean || (marks & good) != good)
        {
            _findings.Add(
                FindingKind.Dirty,
                (marks & clean) != clean
                    ? "the volume is in use, or was not unmounted properly (FAT[1])"
                    : "whoever used the volume met errors of the disk (FAT[1])",
                null, _fat.OffsetOf(1));
        }

        return _findings.Count == 0;
    }

    private async ValueTask<bool> ReadRootAsync(CancellationToken cancellationToken)
    {
        var root = new VolumeNode
        {
            Parent = -1,
            IsDirectory = true,
            Name = "",
            FirstCluster = _geometry.RootCluster,
            Attributes = FatAttributes.Directory,
        };
        _nodes.Add(root);
        return _geometry.RootLength > 0 || await WalkAsync(0, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<string?> ReadFoldersAsync(CancellationToken cancellationToken)
    {
        var parser = new DirectoryParser(_findings);
        var found = new List<VolumeNode>();
        for (int index = 0; index < _nodes.Count; index++)
        {
            VolumeNode node = _nodes[index];
            if (!node.IsDirectory || _findings.Count >= VolumeFindings.MaxKept)
            {
                continue;
            }

            found.Clear();
            byte[] bytes = await ReadFolderAsync(node, cancellationToken).ConfigureAwait(false);
            uint parent = node.Parent > 0 ? _nodes[node.Parent].FirstCluster : 0;
            parser.Parse(bytes, index, node, parent, PathOf(index), at => FolderOffset(node, at), found);
            if (_nodes.Count + found.Count > MaxNodes || (found.Count > 0 && node.Depth >= MaxDepth))
            {
                _findings.Add(FindingKind.Limit, "there are too many files, or too deep ones", PathOf(index));
                break;
            }

            foreach (VolumeNode child in found)
            {
                _nodes.Add(child);
                if (child.FirstCluster != 0)
                {
                    await WalkAsync(_nodes.Count - 1, cancellationToken).ConfigureAwait(false);
                }
            }
        }

        return parser.Label;
    }

    private long FolderOffset(VolumeNode folder, int at)
    {
        if (folder.Parent < 0 && _geometry.RootLength > 0)
        {
            return _geometry.RootOffset + at;
        }

        long index = at / _geometry.ClusterSize;
        foreach (ClusterRun run in folder.Runs)
        {
            if (index < run.Count)
            {
                return _geometry.OffsetOf(run.First + (uint)index) + at % _geometry.ClusterSize;
            }

            index -= run.Count;
        }

        return _geometry.DataOffset;
    }

    private async ValueTask<byte[]> ReadFolderAsync(VolumeNode folder, CancellationToken cancellationToken)
    {
        if (folder.Parent < 0 && _geometry.RootLength > 0)
        {
            byte[] root = new byte[_geometry.RootLength];
            await _disk.ReadAsync(_geometry.RootOffset, root, cancellationToken).ConfigureAwait(false);
            return root;
        }

        byte[] bytes = new byte[folder.Runs.Sum(run => (long)run.Count) * _geometry.ClusterSize];
        int at = 0;
        foreach (ClusterRun run in folder.Runs)
        {
            int count = (int)run.Count * _geometry.ClusterSize;
            await _disk.ReadAsync(_geometry.OffsetOf(run.First), bytes.AsMemory(at, count), cancellationToken)
                .ConfigureAwait(false);
            at += count;
        }

        return bytes;
    }

    /// <summary>Follows the chain of a file or folder. False: something is wrong with it, and it has no
    /// clusters.</summary>
    private async ValueTask<bool> WalkAsync(int index, CancellationToken cancellationToken)
    {
        VolumeNode node = _nodes[index];
        long limit = node.IsDirectory
            ? Math.Max(1, FatLayout.MaxDirectorySize / _geometry.ClusterSize)
            : _geometry.ClustersFor(node.Size);
        uint end = FatLayout.MinEndOfChain(_geometry.Type);
        uint cluster = node.FirstCluster;
        uint before = 0;
        long count = 0;
        _runs.Clear();
        while (true)
        {
            string? wrong = !_geometry.IsCluster(cluster) ? DescribeBad(cluster)
                : IsUsed(cluster) ? "which is a part of another file, or of this one already"
                : count == limit ? "though it is long enough already"
                : null;
            if (wrong is not null)
            {
                long at = before == 0 ? _fat.OffsetOf(FatLayout.FirstCluster) : _fat.OffsetOf(before);
                _findings.Add(
                    FindingKind.Chain,
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"its chain goes on from cluster {before} to {cluster} after {count} clusters, {wrong}"),
                    PathOf(index), at);
                return false;
            }

            SetUsed(cluster);
            AddToRuns(cluster);
            count++;
            before = cluster;
            cluster = _fat.IsLoaded(cluster)
                ? _fat.Get(cluster)
                : await _fat.GetAsync(cluster, cancellationToken).ConfigureAwait(false);
            if (cluster >= end)
            {
                break;
            }
        }

        if (!node.IsDirectory && count != limit)
        {
            _findings.Add(
                FindingKind.Chain,
                string.Create(
                    CultureInfo.InvariantCulture, $"its chain ends after {count} clusters instead of {limit}"),
                PathOf(index), _fat.OffsetOf(before));
            return false;
        }

        _runCount += _runs.Count;
        if (_runCount > MaxRuns)
        {
            _findings.Add(FindingKind.Limit, "the files are in too many pieces", PathOf(index));
            return false;
        }

        node.Runs = [.. _runs];
        return true;
    }

    private string DescribeBad(uint cluster) =>
        cluster == 0 ? "which means that the last one is free"
        : cluster == FatLayout.BadCluster(_geometry.Type) ? "which means that the last one is bad"
        : "which does not exist";

    private void AddToRuns(uint cluster)
    {
        if (_runs.Count > 0 && _runs[^1] is var last && last.First + last.Count == cluster)
        {
            _runs[^1] = last with { Count = last.Count + 1 };
        }
        else
        {
            _runs.Add(new ClusterRun(cluster, 1));
        }
    }

    private bool IsUsed(uint cluster) => (_used[cluster / 64] >> (int)(cluster % 64) & 1) != 0;

    private void SetUsed(uint cluster) => _used[cluster / 64] |= 1UL << (int)(cluster % 64);

    private async ValueTask CheckWholeFatAsync(CancellationToken cancellationToken)
    {
        long bytes = FatLayout.FatBytes(_geometry.Type, _geometry.ClusterCount);
        for (long page = 0; page * FatTable.PageSize < bytes; page++)
        {
            if (!await _fat.CopiesAgreeAsync(page, cancellationToken).ConfigureAwait(false))
            {
                _findings.Add(
                    FindingKind.FatsDiffer, "the copies of the FAT differ", null,
                    _geometry.FatOffset + page * FatTable.PageSize);
                return;
            }
        }

        uint bad = FatLayout.BadCluster(_geometry.Type);
        for (uint cluster = FatLayout.FirstCluster; cluster < _geometry.EndCluster; cluster++)
        {
            uint value = _fat.IsLoaded(cluster)
                ? _fat.Get(cluster)
                : await _fat.GetAsync(cluster, cancellationToken).ConfigureAwait(false);
            if (value != 0 && value != bad && !IsUsed(cluster))
            {
                _findings.Add(
                    FindingKind.Lost,
                    string.Create(CultureInfo.InvariantCulture, $"cluster {cluster} is in use and belongs to nothing"),
                    null, _fat.OffsetOf(cluster));
                return;
            }
        }
    }

    private string PathOf(int index) => VolumeTree.PathOf(_nodes, index);
}
