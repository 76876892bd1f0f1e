using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>
/// Remembers what a server has acknowledged but not flushed, so that it can be written again when the server is lost and
/// comes back without it. Also keeps overlapping changes apart, so that "again" happens in the order that readers saw.
/// </summary>
/// <remarks>
/// <para>A change: <see cref="BeginAsync"/> (waits while an overlapping one is under way, and for room in the log) → sent →
/// <see cref="TryAcknowledge"/> or <see cref="Abandon"/>. One that is lost with its session is sent again under the same
/// ticket. A flush: <see cref="Mark"/> → sent → <see cref="Flushed"/>; it makes durable what was acknowledged before the
/// mark.</para>
/// <para>Generations: an answer counts only for the session that it came from. When a new session is being restored
/// (<see cref="ReplayAsync"/>), a late acknowledgement from the old one is refused (the change is sent again), and a late
/// flush removes nothing: either could have happened on a server that has forgotten it since.</para>
/// <para>The log is bounded in bytes: when it is half full it asks for a flush in the background; when it is full,
/// changes wait for that. What cannot be restored is told by every flush from then on, as a failed write-back of a local
/// file is: a later success would prove nothing.</para>
/// </remarks>
internal sealed class UnflushedWrites : IDisposable
{
    /// <summary>Bytes of memory for the log of a device.</summary>
    public const long DefaultMaxBytes = 64 << 20;

    private readonly long _maxBytes;
    private readonly Func<CancellationToken, Task> _flush;
    private readonly Lock _lock = new();
    private readonly Queue<(long Sequence, UnflushedWrite Write)> _log = new();
    private readonly List<Active> _active = [];
    private Task? _makingRoom;
    private BlockException? _lost;
    private long _bytes;
    private long _sequence;
    private long _lastTicket;
    private int _generation = 1;

    /// <summary>An empty log.</summary>
    /// <param name="maxBytes">Most memory for what is not flushed.</param>
    /// <param name="flush">The device's own flush (<see cref="Mark"/>, send, <see cref="Flushed"/>), to make room.</param>
    public UnflushedWrites(long maxBytes, Func<CancellationToken, Task> flush)
    {
        _maxBytes = maxBytes;
        _flush = flush;
    }

    /// <summary>True when everything acknowledged is flushed.</summary>
    public bool IsEmpty
    {
        get
        {
            lock (_lock)
            {
                return _log.Count == 0;
            }
        }
    }

    /// <summary>Bytes of memory in use.</summary>
    public long Bytes
    {
        get
        {
            lock (_lock)
            {
                return _bytes;
            }
        }
    }

    /// <summary>Begins a change; the ticket goes to <see cref="TryAcknowledge"/> or <see cref="Abandon"/>.</summary>
    public ValueTask<long> BeginAsync(long offset, long count, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            if (_bytes + count <= _maxBytes && FindOverlap(offset, count) < 0)
            {
                return new(Enter(offset, count));
            }
        }

        return BeginSlowlyAsync(offset, count, cancellationToken);
    }

    /// <summary>
    /// The server has acknowledged. False: that was another session than the present one, so it does not count, and the
    /// change must be sent again under the same ticket.
    /// </summary>
    /// <param name="ticket">Of <see cref="BeginAsync"/>.</param>
    /// <param name="generation">Of the session that answered.</param>
    /// <param name="kind">What was done.</param>
    /// <param name="data">What was written; empty for other kinds.</param>
    /// <param name="isDurable">
    /// True when it need not be written again: forced to disk, or a server without flushes. It is kept all the same where
    /// it lies over something that is not durable.
    /// </param>
    public bool TryAcknowledge(
        long ticket, int generation, ChangeKind kind, ReadOnlyMemory<byte> data, bool isDurable)
    {
        TaskCompletionSource? done;
        UnflushedWrite? write = isDurable ? null : new UnflushedWrite(kind, data.Span); // copied outside the lock
        lock (_lock)
        {
            if (generation != _generation)
            {
                write?.Dispose();
                return false;
            }

            int index = IndexOf(ticket);
            if (write is null && CoversUnflushed(_active[index].Offset, _active[index].Count))
            {
                // Or a replay of the older one would undo what is durable.
                write = new UnflushedWrite(kind, data.Span);
            }

            if (write is not null)
            {
                write.Place(_active[index].Offset, _active[index].Count);
                _log.Enqueue((++_sequence, write));
                _bytes += write.Cost;
            }

            done = Leave(index);
            if (_bytes > _maxBytes / 2)
            {
                MakeRoom();
            }
        }

        done?.TrySetResult();
        return true;
    }

    /// <summary>The change failed; what its range holds is not known.</summary>
    public void Abandon(long ticket)
    {
        TaskCompletionSource? done;
        lock (_lock)
        {
            done = Leave(IndexOf(ticket));
        }

        done?.TrySetResult();
    }

    /// <summary>Before a flush is sent: what it will cover. Throws when something acknowledged is lost for good.</summary>
    public long Mark()
    {
        lock (_lock)
        {
            return _lost is null ? _sequence : throw Repeat(_lost);
        }
    }

    /// <summary>A flush has succeeded.</summary>
    /// <param name="mark">Of <see cref="Mark"/>, taken before it was sent.</param>
    /// <param name="generation">Of the session that answered.</param>
    public void Flushed(long mark, int generation)
    {
        lock (_lock)
        {
            while (generation == _generation && _log.TryPeek(out (long Sequence, UnflushedWrite Write) first)
                && first.Sequence <= mark)
            {
                _log.Dequeue();
                _bytes -= first.Write.Cost;
                first.Write.Dispose();
            }
        }
    }

    /// <summary>Remembers for good that something acknowledged did not reach the disk (a flush failed, say).</summary>
    public void ReportLost(BlockException reason)
    {
        lock (_lock)
        {
            _lost ??= reason;
        }
    }

    /// <summary>
    /// Writes everything again on a new session, oldest first, several at once as long as they do not overlap. Nobody
    /// else may use the session yet.
    /// </summary>
    /// <param name="generation">Of the new session.</param>
    /// <param name="write">
    /// Sends one change. It returns the server's refusal, or null; it throws when the session is lost, and then the log
    /// stays as it is, for the next session.
    /// </param>
    /// <param name="depth">Most changes under way at once.</param>
    public async Task ReplayAsync(int generation, Func<UnflushedWrite, Task<BlockException?>> write, int depth)
    {
        UnflushedWrite[] changes;
        lock (_lock)
        {
            _generation = generation;
            changes = [.. _log.Select(item => item.Write)];
        }

        var batch = new List<(UnflushedWrite Change, Task<BlockException?> Task)>();
        try
        {
            foreach (UnflushedWrite change in changes)
            {
                if (batch.Count >= depth || batch.Exists(other => Overlaps(other.Change, change)))
                {
                    await FinishAsync(batch).ConfigureAwait(false);
                }

                batch.Add((change, write(change)));
            }
        }
        finally
        {
            await FinishAsync(batch).ConfigureAwait(false);
        }
    }

    /// <summary>Gives the memory back.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            while (_log.TryDequeue(out (long Sequence, UnflushedWrite Write) item))
            {
                item.Write.Dispose();
            }

            _bytes = 0;
        }
    }

    private static bool Overlaps(UnflushedWrite a, UnflushedWrite b) =>
        a.Offset < b.Offset + b.Count && b.Offset < a.Offset + a.Count;

    private static BlockException Repeat(BlockException e) => new(e.Kind, e.Message, e)
    {
        Offset = e.Offset,
        Hint = "What was written since the last flush may be lost. Close the image, mend the server, check the image.",
        Errno = e.Errno,
    };

    private async Task FinishAsync(List<(UnflushedWrite Change, Task<BlockException?> Task)> batch)
    {
        await Task.WhenAll(batch.Select(item => item.Task)).ConfigureAwait(false);
        foreach ((UnflushedWrite change, Task<BlockException?> task) in batch)
        {
            if (await task.ConfigureAwait(false) is { } refusal)
            {
                ReportLost(new BlockException(
                    refusal.Kind,
                    $"what was written before the connection was lost could not be written again: {refusal.Message}", refusal)
                {
                    Offset = change.Offset,
                    Errno = refusal.Errno,
                });
            }
        }

        batch.Clear();
    }

    private async ValueTask<long> BeginSlowlyAsync(long offset, long count, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task wait;
            lock (_lock)
            {
                int overlap = FindOverlap(offset, count);
                if (overlap >= 0)
                {
                    TaskCompletionSource done = _active[overlap].Done
                        ?? new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                    _active[overlap] = _active[overlap] with { Done = done };
                    wait = done.Task;
                }
                else if (_bytes + count > _maxBytes && _log.Count > 0)
                {
                    wait = MakeRoom();
                }
                else
                {
                    return Enter(offset, count);
                }
            }

            await wait.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private long Enter(long offset, long count)
    {
        _active.Add(new Active(++_lastTicket, offset, count, null));
        return _lastTicket;
    }

    private bool CoversUnflushed(long offset, long count)
    {
        foreach ((_, UnflushedWrite write) in _log)
        {
            if (write.Offset < offset + count && offset < write.Offset + write.Count)
            {
                return true;
            }
        }

        return false;
    }

    private int IndexOf(long ticket)
    {
        int index = 0;
        while (_active[index].Ticket != ticket)
        {
            index++;
        }

        return index;
    }

    private TaskCompletionSource? Leave(int index)
    {
        TaskCompletionSource? done = _active[index].Done;
        _active[index] = _active[^1];
        _active.RemoveAt(_active.Count - 1);
        return done;
    }

    private int FindOverlap(long offset, long count)
    {
        for (int i = 0; i < _active.Count; i++)
        {
            if (offset < _active[i].Offset + _active[i].Count && _active[i].Offset < offset + count)
            {
                return i;
            }
        }

        return -1;
    }

    /// <summary>Under the lock. One flush at a time; its failure is told to whoever waits for room, and to the next flush.</summary>
    private Task MakeRoom()
    {
        if (_makingRoom is null || _makingRoom.IsCompleted)
        {
            _makingRoom = Task.Run(() => _flush(CancellationToken.None));
            _ = _makingRoom.ContinueWith(
                static task => _ = task.Exception, CancellationToken.None,
                TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }

        return _makingRoom;
    }

    /// <summary>A change under way.</summary>
    private readonly record struct Active(long Ticket, long Offset, long Count, TaskCompletionSource? Done);
}
