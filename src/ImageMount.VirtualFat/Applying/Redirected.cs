namespace ImageMount.VirtualFat.Applying;

/// <summary>Follows names that had to become others while steps were done.</summary>
internal static class Redirected
{
    /// <summary>The state with those names.</summary>
    public static FolderState Apply(FolderState state, IReadOnlyList<(HostPath From, HostPath To)> redirects)
    {
        var places = redirects.ToDictionary(redirect => redirect.From, redirect => redirect.To);
        var changed = new Dictionary<FolderNode, FolderNode>(ReferenceEqualityComparer.Instance);
        foreach (FolderNode node in state.Nodes)
        {
            bool isElsewhere = places.TryGetValue(node.Path, out HostPath other) && node.Parent is not null;
            FolderNode? parent = node.Parent is null ? null : changed[node.Parent];
            if (isElsewhere && other.Parent.Raw.Length == 0)
            {
                parent = changed[state.Nodes[0]];
            }

            changed.Add(node, new FolderNode
            {
                Parent = parent,
                Name = node.Name,
                HostName = isElsewhere ? other.Name : node.HostName,
                IsFolder = node.IsFolder,
                FirstCluster = node.FirstCluster,
                Size = node.Size,
                Runs = node.Runs,
                Attributes = node.Attributes,
                Times = node.Times,
                Host = node.Host,
            });
        }

        return state with { Nodes = [.. state.Nodes.Select(node => changed[node])] };
    }
}
