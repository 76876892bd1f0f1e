namespace ImageMount.Core.Block;

/// <summary>
/// Implemented by devices that can ask what they stand on to make a range ready for reading, without moving its bytes.
/// </summary>
public interface IPrefetch
{
    /// <summary>Asks. Advice only: false when it cannot be asked for; reading afterwards works in any case.</summary>
    ValueTask<bool> TryPrefetchAsync(long offset, long count, CancellationToken cancellationToken);
}
