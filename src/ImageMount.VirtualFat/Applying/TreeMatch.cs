using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;
using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// Which file of the disk is which of before. FAT has no inodes, so this is a judgement, from the first cluster, the
/// place and the time of creation; a wrong one costs a file of the host its owner, mode and attributes, never its
/// contents, because contents follow the clusters and not this.
/// </summary>
internal sealed class TreeMatch
{
    private readonly FolderState _before;
    private readonly VolumeTree _now;
    private readonly Func<ClusterRun, bool> _isFresh;
    private readonly FolderNode?[] _matches;
    private readonly HashSet<FolderNode> _claimed = new(ReferenceEqualityComparer.Instance);

    private TreeMatch(FolderState before, VolumeTree now, Func<ClusterRun, bool> isFresh)
    {
        _before = before;
        _now = now;
        _isFresh = isFresh;
        _matches = new FolderNode?[now.Nodes.Count];
    }

    /// <summary>Compares.</summary>
    /// <param name="before">The disk as it was.</param>
    /// <param name="now">As it is.</param>
    /// <param name="isFresh">True when any sector of some clusters was written since.</param>
    public static TreeMatch Make(FolderState before, VolumeTree now, Func<ClusterRun, bool> isFresh)
    {
        var match = new TreeMatch(before, now, isFresh);
        match.MatchClusters();
        match.MatchPlaces();
        return match;
    }

    /// <summary>What a file or folder of the disk was before; null for a new one.</summary>
    public FolderNode? Of(int node) => _matches[node];

    /// <summary>Files and folders that are not there any more, children before their folders.</summary>
    public IEnumerable<FolderNode> Removed => _before.Nodes.Reverse().Where(node => !_claimed.Contains(node));

    /// <summary>True when a file has other bytes than before.</summary>
    public bool IsChanged(int node)
    {
        VolumeNode now = _now.Nodes[node];
        return _matches[node] is not { } before || !HasSameBytes(before, now);
    }

    private void MatchClusters()
    {
        var byCluster = new Dictionary<uint, FolderNode>(_before.Nodes.Count);
        foreach (FolderNode node in _before.Nodes)
        {
            if (node.FirstCluster != 0 && node.Parent is not null)
            {
                byCluster.TryAdd(node.FirstCluster, node);
            }
        }

        Claim(0, _before.Nodes[0]);
        for (int i = 1; i < _matches.Length; i++)
        {
            VolumeNode now = _now.Nodes[i];
            if (now.FirstCluster != 0 && byCluster.TryGetValue(now.FirstCluster, out FolderNode? before)
                && before.IsFolder == now.IsDirectory && !_claimed.Contains(before) && IsLikely(before, now))
            {
                Claim(i, before);
            }
        }
    }

    private void MatchPlaces()
    {
        var byPlace = new Dictionary<(FolderNode Parent, string Name), FolderNode>();
        foreach (FolderNode node in _before.Nodes)
        {
            if (node.Parent is { } parent && !_claimed.Contains(node))
            {
                byPlace.TryAdd((parent, NameRules.Fold(node.Name)), node);
            }
        }

        for (int i = 1; i < _matches.Length; i++)
        {
            VolumeNode now = _now.Nodes[i];
            if (_matches[i] is null && _matches[now.Parent] is { } parent
                && byPlace.TryGetValue((parent, NameRules.Fold(now.Name)), out FolderNode? before)
                && before.IsFolder == now.IsDirectory && !_claimed.Contains(before))
            {
                Claim(i, before);
            }
        }
    }

    /// <summary>
    /// The same first cluster may be a matter of chance: a file was removed, and its place given to a new one.
    /// </summary>
    private bool IsLikely(FolderNode before, VolumeNode now)
    {
        bool isSamePlace = _matches[now.Parent] == before.Parent && now.Name == before.Name;
        return isSamePlace || HasSameCreation(before.Times, now.Times)
            || (before.IsFolder ? !_isFresh(now.Runs[0] with { Count = 1 }) : HasSameBytes(before, now));
    }

    private static bool HasSameCreation(FatTimestamps a, FatTimestamps b) =>
        a.CreationDate != 0 && a.CreationDate == b.CreationDate && a.CreationTime == b.CreationTime
        && a.CreationHundredths == b.CreationHundredths;

    private bool HasSameBytes(FolderNode before, VolumeNode now) =>
        before.Size == now.Size && before.Runs.AsSpan().SequenceEqual(now.Runs) && !now.Runs.Any(_isFresh);

    private void Claim(int node, FolderNode before)
    {
        _matches[node] = before;
        _claimed.Add(before);
    }
}
