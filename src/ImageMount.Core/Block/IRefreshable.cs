namespace ImageMount.Core.Block;

/// <summary>
/// Implemented by devices that show something which others change, as it was when they looked, and can look again.
/// </summary>
public interface IRefreshable
{
    /// <summary>True when the user wants it looked at again whenever a reader begins anew; fixed at open.</summary>
    bool WantsRefresh { get; }

    /// <summary>
    /// Looks again: the device keeps its length, everything else may be different afterwards. Not called while anybody
    /// relies on what was read before; reads may be under way, and see the old or the new. When it fails, nothing has
    /// changed.
    /// </summary>
    ValueTask RefreshAsync(CancellationToken cancellationToken);
}
