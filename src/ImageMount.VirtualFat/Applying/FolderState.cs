using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Plan;
using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// A file or folder as the disk and the host's folder had it when both were the same: when the plan was made, or when
/// the folder last followed the disk. What the guest did since is the difference to this.
/// </summary>
internal sealed class FolderNode
{
    /// <summary>The folder it is in; null for the root.</summary>
    public required FolderNode? Parent { get; init; }

    /// <summary>Name on the disk.</summary>
    public required string Name { get; init; }

    /// <summary>Name on the host.</summary>
    public required HostPath HostName { get; init; }

    /// <summary>A folder.</summary>
    public required bool IsFolder { get; init; }

    /// <summary>First cluster; 0 when there is none.</summary>
    public required uint FirstCluster { get; init; }

    /// <summary>Bytes of a file on the disk.</summary>
    public required uint Size { get; init; }

    /// <summary>Clusters of a file.</summary>
    public required ClusterRun[] Runs { get; init; }

    /// <summary>Attributes on the disk.</summary>
    public required FatAttributes Attributes { get; init; }

    /// <summary>Times on the disk.</summary>
    public required FatTimestamps Times { get; init; }

    /// <summary>What it is on the host; nothing, where the host has it no more.</summary>
    public required HostIdentity Host { get; init; }

    /// <summary>Path on the host.</summary>
    public HostPath Path
    {
        get
        {
            var parts = new Stack<string>();
            for (FolderNode at = this; at.Parent is { } parent; at = parent)
            {
                parts.Push(at.HostName.Raw);
            }

            return new HostPath(string.Join('/', parts));
        }
    }
}

/// <summary>All of them; the root first, parents before their children.</summary>
/// <param name="Nodes">Files and folders.</param>
/// <param name="ApplyId">Id of the last applying; empty before the first.</param>
internal sealed record FolderState(IReadOnlyList<FolderNode> Nodes, string ApplyId)
{
    /// <summary>As it was when the plan was made.</summary>
    public static FolderState FromPlan(FatPlan plan)
    {
        var nodes = new FolderNode?[plan.Entries.Count];
        var ordered = new List<FolderNode>(nodes.Length);
        var way = new Stack<int>();
        for (int i = 0; i < nodes.Length; i++)
        {
            for (int at = i; nodes[at] is null; at = plan.Entries[at].Parent)
            {
                way.Push(at);
                if (at == 0)
                {
                    break;
                }
            }

            while (way.TryPop(out int next))
            {
                FolderNode node = FromEntry(plan, next, next == 0 ? null : nodes[plan.Entries[next].Parent]);
                nodes[next] = node;
                ordered.Add(node);
            }
        }

        return new FolderState(ordered, "");
    }

    /// <summary>The same with other names and identities on the host.</summary>
    /// <param name="name">Name of a node.</param>
    /// <param name="host">What it is there.</param>
    /// <param name="isAtTop">True for one that is in the folder at the top now.</param>
    public FolderState With(
        Func<FolderNode, HostPath> name, Func<FolderNode, HostIdentity> host, Func<FolderNode, bool>? isAtTop = null)
    {
        var changed = new Dictionary<FolderNode, FolderNode>(Nodes.Count, ReferenceEqualityComparer.Instance);
        foreach (FolderNode node in Nodes)
        {
            FolderNode? parent = node.Parent is null ? null
                : isAtTop?.Invoke(node) == true ? changed[Nodes[0]] : changed[node.Parent];
            changed.Add(node, new FolderNode
            {
                Parent = parent,
                Name = node.Name,
                HostName = name(node),
                IsFolder = node.IsFolder,
                FirstCluster = node.FirstCluster,
                Size = node.Size,
                Runs = node.Runs,
                Attributes = node.Attributes,
                Times = node.Times,
                Host = host(node),
            });
        }

        return this with { Nodes = [.. Nodes.Select(node => changed[node])] };
    }

    private static FolderNode FromEntry(FatPlan plan, int index, FolderNode? parent)
    {
        PlannedEntry entry = plan.Entries[index];
        uint clusters = entry.IsDirectory || entry.FirstCluster == 0 ? 0 : plan.Geometry.ClustersFor(entry.Size);
        return new FolderNode
        {
            Parent = parent,
            Name = index == 0 ? "" : entry.LongName,
            HostName = HostPath.FromBytes(entry.HostNameBytes),
            IsFolder = entry.IsDirectory || index == 0,
            FirstCluster = entry.FirstCluster,
            Size = entry.IsDirectory ? 0 : entry.Size,
            Runs = clusters == 0 ? [] : [new ClusterRun(entry.FirstCluster, clusters)],
            Attributes = entry.Attributes,
            Times = entry.Times,
            Host = entry.IsDirectory || index == 0
                ? HostIdentity.Folder(entry.HostInode)
                : new HostIdentity(entry.HostInode, entry.HostSize, entry.HostModifiedNs, false)
                {
                    ChangedNs = entry.HostChangedNs,
                },
        };
    }
}
