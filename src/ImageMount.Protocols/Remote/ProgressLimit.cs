namespace ImageMount.Protocols.Remote;

/// <summary>
/// Ends a request that makes no progress for a time, that its caller gives up, or whose session ends. Begins to count with
/// the first <see cref="Renew"/>.
/// </summary>
/// <param name="timeout">How long; zero: for ever.</param>
/// <param name="caller">The caller's.</param>
/// <param name="session">The session's.</param>
internal sealed class ProgressLimit(TimeSpan timeout, CancellationToken caller, CancellationToken session) : IDisposable
{
    private readonly CancellationTokenSource _source = CancellationTokenSource.CreateLinkedTokenSource(caller, session);

    /// <summary>For whatever may wait.</summary>
    public CancellationToken Token => _source.Token;

    /// <summary>Something moved.</summary>
    public void Renew()
    {
        if (timeout > TimeSpan.Zero)
        {
            _source.CancelAfter(timeout);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _source.Dispose();
}
