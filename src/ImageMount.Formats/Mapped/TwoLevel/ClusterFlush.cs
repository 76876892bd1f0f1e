namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>
/// Writes back what changed, in the order that keeps every moment safe: a barrier for the payload, and for new L2 tables,
/// which are filled before an L1 entry names them; then L2 and L1 entries; then a barrier. L2 and L1 entries need none
/// between them: without its new entries a new table says what was true before, that nothing is allocated.
/// All of it is copied at one moment under the lock, so changes may go on meanwhile; they belong to the next write-back.
/// A failure leaves everything dirty, for the next try.
/// </summary>
internal sealed class ClusterFlush(ClusterImage image)
{
    private readonly SemaphoreSlim _gate = new(1, 1);
    private long _asked;
    private long _served;

    /// <summary>
    /// Makes everything durable that was committed before the call. Callers that come while one write-back is under way
    /// share the next one.
    /// </summary>
    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        long ticket = Interlocked.Increment(ref _asked);
        await _gate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_served >= ticket)
            {
                return; // One that began after we asked has done it.
            }

            long upTo = Interlocked.Read(ref _asked);
            await WriteBackAsync().ConfigureAwait(false);
            _served = upTo;
        }
        finally
        {
            _gate.Release();
        }
    }

    /// <summary>Not cancellable: half a write-back helps nobody, and the next one would do it all again.</summary>
    private async ValueTask WriteBackAsync()
    {
        TableCapture l2;
        RootTable.Capture l1;
        lock (image.Sync)
        {
            l2 = image.L2.Capture();
            l1 = image.L1.CaptureDirty();
        }

        bool written = false;
        try
        {
            await image.File.FlushAsync().ConfigureAwait(false);
            if (!l2.IsEmpty || !l1.IsEmpty)
            {
                await l2.WriteAsync(image.File, CancellationToken.None).ConfigureAwait(false);
                await l1.WriteAsync(image.File, CancellationToken.None).ConfigureAwait(false);
                await image.File.FlushAsync().ConfigureAwait(false);
            }

            written = true;
        }
        finally
        {
            lock (image.Sync)
            {
                image.L2.Complete(l2, written);
                if (!written)
                {
                    image.L1.Restore(l1);
                }
            }
        }
    }
}
