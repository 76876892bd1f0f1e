namespace ImageMount.Mounting.Tree;

/// <summary>
/// A directory. Its entries are known from the start, or found when somebody first looks (a snapshot's disk is opened
/// only then); after that they never change.
/// </summary>
public sealed class TreeDirectory : TreeNode
{
    private readonly SemaphoreSlim _loading = new(1, 1);
    private readonly Func<TreeDirectory, CancellationToken, ValueTask<IReadOnlyList<TreeNode>>>? _load;
    private volatile IReadOnlyList<TreeNode>? _entries;

    internal TreeDirectory(
        string name, TreeDirectory? parent,
        Func<TreeDirectory, CancellationToken, ValueTask<IReadOnlyList<TreeNode>>>? load = null)
        : base(name, parent) => _load = load;

    /// <summary>The entries if they are known already, else null.</summary>
    public IReadOnlyList<TreeNode>? LoadedEntries => _entries;

    /// <summary>
    /// The entries; finding them may open a snapshot and fail with <see cref="Core.Block.BlockException"/>.
    /// </summary>
    public ValueTask<IReadOnlyList<TreeNode>> GetEntriesAsync(CancellationToken cancellationToken)
    {
        IReadOnlyList<TreeNode>? entries = _entries;
        return entries is not null ? new(entries) : LoadAsync(cancellationToken);
    }

    /// <summary>The entry of this name, or null.</summary>
    public async ValueTask<TreeNode?> FindAsync(ReadOnlyMemory<byte> utf8Name, CancellationToken cancellationToken)
    {
        foreach (TreeNode entry in await GetEntriesAsync(cancellationToken).ConfigureAwait(false))
        {
            if (entry.Utf8Name.Span.SequenceEqual(utf8Name.Span))
            {
                return entry;
            }
        }

        return null;
    }

    internal void SetEntries(IReadOnlyList<TreeNode> entries) => _entries = entries;

    private async ValueTask<IReadOnlyList<TreeNode>> LoadAsync(CancellationToken cancellationToken)
    {
        await _loading.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return _entries ??= _load is null ? [] : await _load(this, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _loading.Release();
        }
    }
}
