namespace ImageMount.VirtualFat.Applying;

/// <summary>Follows names that had to become others while steps were done.</summary>
internal static class Redirected
{
    /// <summary>The state with those names.</summary>
    public static FolderState Apply(FolderState state, IReadOnlyList<(HostPath From, HostPath To)> redirects)
    {
        var places = new Dictionary<HostPath, HostPath>();
        foreach ((HostPath from, HostPath to) in redirects)
        {
            places[from] = to;
        }

        return state.With(
            node => Elsewhere(node)?.Name ?? node.HostName, node => node.Host,
            node => Elsewhere(node) is { Parent.Raw.Length: 0 });

        HostPath? Elsewhere(FolderNode node) =>
            node.Parent is not null && places.TryGetValue(node.Path, out HostPath other) ? other : null;
    }
}
