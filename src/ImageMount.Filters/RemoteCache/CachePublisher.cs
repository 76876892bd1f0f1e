using ImageMount.Core.Block;

namespace ImageMount.Filters.RemoteCache;

/// <summary>
/// Marks units as there, once it is known that their bytes belong to the version of the file: at once where every read
/// is checked, else in batches, after the server was asked. Until then the bytes lie in the file without a mark:
/// whoever opens it does not see them, and nothing is lost but the effort.
/// </summary>
/// <remarks>
/// Asking afterwards is what makes a version trustworthy that is only a time: when it is the same before and after, the
/// bytes in between are those of that time, even if somebody puts an old file back, with its old time, later.
/// </remarks>
internal sealed class CachePublisher(
    CacheFile file, IRemoteFile source, TimeProvider clock, Action<int> onFailure, Action onChange)
{
    private const int BatchUnits = 1024;
    private const int MaxWaiting = 256 << 10; // 4 GiB; more only means that some has to be fetched again.
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _one = new(1, 1);
    private readonly CancellationTokenSource _stop = new();
    private List<(long Unit, uint Mark)> _waiting = [];
    private long _last = clock.GetTimestamp();
    private Task _running = Task.CompletedTask;

    /// <summary>Bytes of these units, which follow each other, are in the file.</summary>
    public void Add(long first, ReadOnlySpan<uint> marks)
    {
        if (source.ChecksEveryRead)
        {
            Put(first, marks);
            return;
        }

        lock (_lock)
        {
            for (int i = 0; i < marks.Length && _waiting.Count < MaxWaiting; i++)
            {
                _waiting.Add((first + i, marks[i]));
            }

            bool isDue = _waiting.Count >= BatchUnits || clock.GetElapsedTime(_last) >= s_interval;
            if (isDue && _running.IsCompleted)
            {
                _last = clock.GetTimestamp();
                _running = Task.Run(() => PublishAsync(_stop.Token));
            }
        }
    }

    /// <summary>Marks what waits, if the server answers; nothing is asked afterwards.</summary>
    public async Task FinishAsync(CancellationToken cancellationToken)
    {
        await PublishAsync(cancellationToken).ConfigureAwait(false);
        await _stop.CancelAsync().ConfigureAwait(false);
        await _running.ConfigureAwait(false);
    }

    private async Task PublishAsync(CancellationToken cancellationToken)
    {
        try
        {
            await _one.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            return; // Too late: what waits stays without a mark.
        }

        List<(long Unit, uint Mark)> batch;
        lock (_lock)
        {
            (batch, _waiting) = (_waiting, []);
        }

        try
        {
            if (batch.Count > 0)
            {
                if (await source.IsUnchangedAsync(cancellationToken).ConfigureAwait(false))
                {
                    Put(batch);
                }
                else
                {
                    onChange();
                }
            }
        }
        catch (Exception e) when (e is BlockException or OperationCanceledException)
        {
            lock (_lock)
            {
                // The server does not answer: the next batch asks again.
                _waiting.AddRange(batch.Take(MaxWaiting - _waiting.Count));
            }
        }
        finally
        {
            _one.Release();
        }
    }

    private void Put(List<(long Unit, uint Mark)> batch)
    {
        batch.Sort();
        Span<uint> marks = stackalloc uint[128];
        for (int i = 0; i < batch.Count;)
        {
            int count = 0;
            long first = batch[i].Unit;
            while (count < marks.Length && i < batch.Count && batch[i].Unit == first + count)
            {
                marks[count++] = batch[i++].Mark;
            }

            while (i < batch.Count && count > 0 && batch[i].Unit < first + count)
            {
                i++; // The same unit twice: read twice at the same time.
            }

            Put(first, marks[..count]);
        }
    }

    private void Put(long first, ReadOnlySpan<uint> marks)
    {
        if (file.WriteMarks(first, marks) is not 0 and var errno)
        {
            onFailure(errno);
        }
    }
}
