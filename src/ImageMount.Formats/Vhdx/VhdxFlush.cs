using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Makes everything durable that was committed: barrier (payload, and the places of the log entry before), log entry,
/// barrier, places. Changes are copied at one moment under the lock, so more may be made meanwhile; there are never
/// more than fit into one entry (<see cref="HasRoom"/>). Blocks that the changes freed are given out again when the
/// entry is durable and the requests that could still use them have ended.
/// </summary>
internal sealed class VhdxFlush(VhdxImage image, VhdxSession session, Func<ValueTask> quiesce, bool discards)
{
    private readonly SemaphoreSlim _gate = new(1, 1);
    private readonly SemaphoreSlim _reaping = new(1, 1);
    private List<(long Host, long Size)> _freed = [];
    private List<(long Host, long Size)> _durable = [];
    private long _asked;
    private long _served;
    private int _underWay;

    /// <summary>
    /// True when a change may touch so many more pieces; under the lock. Half the entry for what waits, half for what
    /// is being written and has to be written again should that fail.
    /// </summary>
    public bool HasRoom(int pieces)
    {
        int dirty = image.Tables.DirtyCount;
        return dirty == 0 && _underWay == 0
            || (dirty + pieces <= session.Log.Capacity / 2 && dirty + pieces + _underWay <= session.Log.Capacity);
    }

    /// <summary>Notes a place that no entry names any more, once what changed is durable; under the lock.</summary>
    public void Free(long host, long size) => _freed.Add((host, size));

    /// <summary>Makes durable what was committed before the call; calls at the same time share the work.</summary>
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

        // Not awaited: a request may be asking, and reaping waits for requests.
        _ = ReapAsync();
    }

    /// <summary>Gives back what is free and durable; waits for requests that began before. Never throws.</summary>
    public async Task ReapAsync()
    {
        await _reaping.WaitAsync().ConfigureAwait(false);
        try
        {
            List<(long Host, long Size)> batch;
            lock (image.Sync)
            {
                batch = _durable;
                _durable = [];
            }

            if (batch.Count == 0)
            {
                return;
            }

            await quiesce().ConfigureAwait(false);
            foreach ((long host, long size) in batch)
            {
                await DiscardAsync(host, size).ConfigureAwait(false);
                session.Space.Return(host, size);
            }
        }
        finally
        {
            _reaping.Release();
        }
    }

    /// <summary>Tells the host that a place is free. Advice: a failure costs space only.</summary>
    private async ValueTask DiscardAsync(long host, long size)
    {
        long inside = Math.Min(size, image.File.Length - host);
        if (!discards || inside <= 0)
        {
            return;
        }

        try
        {
            await image.File.DiscardAsync(host, inside).ConfigureAwait(false);
        }
        catch (BlockException)
        {
            return;
        }
    }

    /// <summary>Not cancellable: half a write-back helps nobody, and the next one would do it all again.</summary>
    private async ValueTask WriteBackAsync()
    {
        TableCapture capture;
        List<(long Host, long Size)> freed;
        long length;
        lock (image.Sync)
        {
            capture = image.Tables.Capture();
            freed = _freed;
            _freed = [];
            _underWay = capture.Count;
            length = image.File.Length;
        }

        bool written = false;
        try
        {
            await image.File.FlushAsync().ConfigureAwait(false);
            if (!capture.IsEmpty)
            {
                await session.Log.WriteAsync(capture, length, session.Space.End).ConfigureAwait(false);
            }

            written = true;
        }
        finally
        {
            lock (image.Sync)
            {
                image.Tables.Complete(capture, written);
                _underWay = 0;
                (written ? _durable : _freed).AddRange(freed);
            }
        }
    }
}
