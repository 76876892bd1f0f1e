using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>
/// Reads from a server that keeps no state: what was lost is asked for again, on the same session first (one loss is a
/// connection's), then on a new one, with growing pauses, as long as the link allows.
/// </summary>
/// <param name="link">Sessions.</param>
/// <param name="clock">For pauses.</param>
internal sealed class Resender<T>(RemoteLink<T> link, TimeProvider clock)
    where T : class, IRemoteSession
{
    private static readonly TimeSpan s_firstPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_longestPause = TimeSpan.FromSeconds(5);

    private readonly CancellationTokenSource _noPauses = new();

    /// <summary>Reads a part: at least one byte, and says how many; or throws <see cref="LossException"/>.</summary>
    public delegate Task<int> ReadPart(T session, long offset, Memory<byte> buffer, CancellationToken cancellationToken);

    /// <summary>Fills the buffer.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="buffer">Where they go.</param>
    /// <param name="read">Reads a part.</param>
    /// <param name="check">Throws where it makes no sense to go on.</param>
    /// <param name="cancellationToken">The caller's.</param>
    public async ValueTask ReadAsync(
        long offset, Memory<byte> buffer, ReadPart read, Action check, CancellationToken cancellationToken)
    {
        var trouble = new Trouble();
        while (!buffer.IsEmpty)
        {
            check();
            LinkLease<T> lease = await link.GetAsync(cancellationToken).ConfigureAwait(false);
            check();
            try
            {
                int count = await read(lease.Session, offset, buffer, cancellationToken).ConfigureAwait(false);
                offset += count;
                buffer = buffer[count..];
                trouble = new Trouble();
            }
            catch (LossException e)
            {
                await GetOverAsync(e, lease, trouble, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Whether a lost request may be sent again (else it throws), and when: then it completes.</summary>
    public async Task GetOverAsync(
        LossException e, LinkLease<T> lease, Trouble trouble, CancellationToken cancellationToken)
    {
        if (!link.MayRetry(ref trouble.Began))
        {
            throw link.Lost(e.Reason);
        }

        trouble.Count++;
        if (!e.IsAnswer && (trouble.Count > 1 || e.Reason.Kind == BlockErrorKind.TimedOut))
        {
            lease.Session.Abort(e.Reason);
        }

        if (!e.IsAnswer && trouble.Count == 1)
        {
            return;
        }

        TimeSpan pause = s_firstPause * Math.Pow(2, Math.Min(trouble.Count, 10));
        pause = e.Pause > pause ? e.Pause.Value : pause;
        pause = pause < s_longestPause ? pause : s_longestPause;
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _noPauses.Token);
        try
        {
            await Task.Delay(pause, clock, both.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // The disk is being closed: one more try, and MayRetry ends it.
            trouble.Count++;
        }
    }

    /// <summary>See <see cref="IWaitsForPeer"/>.</summary>
    public void StopWaiting(TimeSpan grace)
    {
        link.StopWaiting(grace);
        _noPauses.Cancel();
    }
}

/// <summary>How often and since when a request was lost, without getting any further.</summary>
internal sealed class Trouble
{
    /// <summary>When the first loss was; 0 before.</summary>
    public long Began;

    /// <summary>Losses.</summary>
    public int Count;
}
