using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Protocols.Remote;

/// <summary>A request of a <see cref="PipelinedConnection{T}"/>, which ends when both its parts have: sent, and answered.</summary>
internal interface IPipelinedRequest
{
    /// <summary>Names it in the connection; what the server repeats in its answer.</summary>
    ulong Cookie { get; set; }

    /// <summary>What is sent after the header, from where it is.</summary>
    ReadOnlyMemory<byte> Payload { get; }

    /// <summary>The last byte was sent, or never will be.</summary>
    void Sent();

    /// <summary>There will be no answer.</summary>
    void Lose();
}

/// <summary>
/// A connection on which many requests are under way: a table of those that wait for answers, a sender that puts what has
/// gathered into few messages, and a receiver, which the protocol writes.
/// </summary>
/// <remarks>
/// Whoever queues a request while nobody sends becomes the sender until the queue is empty; so a lone request goes out on
/// the caller's thread, and many at once share a system call. The connection ends once, by whoever notices first;
/// everything that has no answer then is lost, when neither sender nor receiver can touch its memory.
/// </remarks>
internal abstract class PipelinedConnection<T> : IRemoteConnection
    where T : class, IPipelinedRequest
{
    /// <summary>Most requests without an answer at a time.</summary>
    public const int Depth = 1 << SlotBits;

    /// <summary>
    /// Low bits of a cookie that are the request's place in the table; the rest is a running number, of which a protocol
    /// with narrow cookies keeps what there is room for.
    /// </summary>
    private const int SlotBits = 6;

    private const int SendBufferSize = 64 << 10;

    /// <summary>Payload up to here is copied together with its header.</summary>
    private const int SmallPayload = 16 << 10;

    private readonly SemaphoreSlim _room = new(Depth, Depth);
    private readonly Lock _lock = new();
    private readonly T?[] _waiting = new T?[Depth];
    private readonly Stack<int> _free = new(Enumerable.Range(0, Depth).Reverse());
    private readonly Queue<T> _queue = new();
    private readonly BufferLease _sendBuffer = BufferPool.Shared.Rent(SendBufferSize);
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource<BlockException> _ended =
        new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _senderGone = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _allFailed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly string _peer;
    private Task _receiving = Task.CompletedTask;
    private bool _isSending;
    private bool _isOver;
    private uint _sequence;
    private int _outstanding;
    private long _sent;

    /// <summary>A connection that receives nothing before <see cref="Start"/>.</summary>
    /// <param name="peer">What messages call the server.</param>
    protected PipelinedConnection(string peer) => _peer = peer;

    /// <inheritdoc/>
    public int Outstanding => Volatile.Read(ref _outstanding);

    /// <inheritdoc/>
    public long Progress => Received + Volatile.Read(ref _sent);

    /// <inheritdoc/>
    public Task<BlockException> Ended => _ended.Task;

    /// <summary>To the server.</summary>
    protected abstract Stream Output { get; }

    /// <summary>Bytes received so far.</summary>
    protected abstract long Received { get; }

    /// <summary>Begins to receive.</summary>
    public void Start() => _receiving = ReceiveAsync();

    /// <inheritdoc/>
    public void End(BlockException reason)
    {
        lock (_lock)
        {
            if (_isOver)
            {
                return;
            }

            _isOver = true;
        }

        _stop.Cancel();
        Abort(reason);
        _ended.TrySetResult(reason);
        _ = LoseAllAsync();
    }

    /// <inheritdoc/>
    public async ValueTask CloseAsync()
    {
        if (TryTakeSender())
        {
            try
            {
                await SayGoodbyeAsync().ConfigureAwait(false);
            }
            catch (Exception e) when (NetworkErrors.IsNetwork(e) || e is OperationCanceledException)
            {
                End(NetworkErrors.Broken(e, _peer)); // It is gone already.
            }
            finally
            {
                LeaveSender();
            }
        }

        End(new BlockException(BlockErrorKind.Cancelled, "the connection is closed"));
        await _allFailed.Task.ConfigureAwait(false);
    }

    /// <summary>Waits for a place in the table, which <see cref="Queue"/> takes. False: cancelled.</summary>
    protected async ValueTask<bool> TryEnterAsync(CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _outstanding);
        try
        {
            await _room.WaitAsync(cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    /// <summary>The request of the last <see cref="TryEnterAsync"/> has ended, or was not queued.</summary>
    protected void Leave() => Interlocked.Decrement(ref _outstanding);

    /// <summary>Sends a request as soon as it is its turn.</summary>
    protected void Queue(T request)
    {
        lock (_lock)
        {
            if (!_isOver)
            {
                int slot = _free.Pop();
                request.Cookie = ((ulong)++_sequence << SlotBits) | (uint)slot;
                _waiting[slot] = request;
                _queue.Enqueue(request);
                if (_isSending)
                {
                    return;
                }

                _isSending = true;
            }
            else
            {
                _room.Release();
                request.Sent();
                request.Lose();
                return;
            }
        }

        _ = SendAsync();
    }

    /// <summary>The request of a cookie, or null.</summary>
    protected T? Find(ulong cookie)
    {
        lock (_lock)
        {
            return _waiting[SlotOf(cookie)] is { } request && request.Cookie == cookie ? request : null;
        }
    }

    /// <summary>Takes an answered request out of the table, for the caller to tell it so; false: it is lost already.</summary>
    protected bool TryFinish(T request)
    {
        lock (_lock)
        {
            int slot = SlotOf(request.Cookie);
            if (_waiting[slot] != request)
            {
                return false;
            }

            _waiting[slot] = null;
            _free.Push(slot);
        }

        _room.Release();
        return true;
    }

    /// <summary>Receives until the end, and says why that is; EndOfStreamException means that the server has closed.</summary>
    protected abstract Task<BlockException> ReceiveAllAsync(CancellationToken cancellationToken);

    /// <summary>Bytes of a request before its payload; at most 8 KiB.</summary>
    protected abstract int HeaderSize(T request);

    /// <summary>Writes them.</summary>
    protected abstract void WriteHeader(T request, Span<byte> to);

    /// <summary>Closes what is below, so that reads and writes that wait end.</summary>
    protected abstract void Abort(BlockException reason);

    /// <summary>Tells the server that nothing more comes, within about a second. Nobody sends meanwhile.</summary>
    protected abstract ValueTask SayGoodbyeAsync();

    /// <summary>Why the connection broke, if anybody knows better.</summary>
    protected virtual ValueTask<BlockException> ExplainAsync(BlockException reason) => new(reason);

    /// <summary>Gives buffers back; neither sender nor receiver is there any more.</summary>
    protected abstract void Release();

    private static int SlotOf(ulong cookie) => (int)(cookie & (Depth - 1));

    /// <summary>True when nobody sends, and now the caller does, until <see cref="LeaveSender"/>.</summary>
    private bool TryTakeSender()
    {
        lock (_lock)
        {
            return !_isOver && !_isSending && (_isSending = true);
        }
    }

    private void LeaveSender()
    {
        lock (_lock)
        {
            _isSending = false;
            if (_isOver)
            {
                _senderGone.TrySetResult();
            }
        }
    }

    private async Task SendAsync()
    {
        T? withPayload = null;
        try
        {
            while (true)
            {
                int filled = Gather(out withPayload);
                if (filled == 0)
                {
                    return;
                }

                await Output.WriteAsync(_sendBuffer.Memory[..filled], _stop.Token).ConfigureAwait(false);
                Volatile.Write(ref _sent, _sent + filled);
                if (withPayload is not null)
                {
                    ReadOnlyMemory<byte> payload = withPayload.Payload;
                    await Output.WriteAsync(payload, _stop.Token).ConfigureAwait(false);
                    Volatile.Write(ref _sent, _sent + payload.Length);
                    T sent = withPayload;
                    withPayload = null;
                    sent.Sent();
                }
            }
        }
        catch (Exception e)
        {
            // Whatever it is, a bug of ours too: those who wait must hear of it.
            withPayload?.Sent();
            LeaveSender();
            End(await ExplainAsync(NetworkErrors.Broken(e, _peer)).ConfigureAwait(false));
        }
    }

    /// <summary>
    /// Fills the send buffer from the queue. Requests that are wholly in it count as sent, since their memory is not used
    /// any more. A large payload ends the buffer and is sent from where it is. 0: nothing is left, and nobody sends now.
    /// </summary>
    private int Gather(out T? withPayload)
    {
        withPayload = null;
        int filled = 0;
        lock (_lock)
        {
            while (!_isOver && _queue.TryPeek(out T? request))
            {
                int header = HeaderSize(request);
                int payload = request.Payload.Length;
                if (filled + header + (payload <= SmallPayload ? payload : 0) > SendBufferSize)
                {
                    return filled;
                }

                _queue.Dequeue();
                WriteHeader(request, _sendBuffer.Span.Slice(filled, header));
                filled += header;
                if (payload > SmallPayload)
                {
                    withPayload = request;
                    return filled;
                }

                request.Payload.Span.CopyTo(_sendBuffer.Span[filled..]);
                filled += payload;
                request.Sent();
            }

            _isSending = filled > 0;
            if (!_isSending && _isOver)
            {
                _senderGone.TrySetResult();
            }
        }

        return filled;
    }

    private async Task ReceiveAsync()
    {
        BlockException reason;
        try
        {
            reason = await ReceiveAllAsync(_stop.Token).ConfigureAwait(false);
        }
        catch (EndOfStreamException)
        {
            reason = await ExplainAsync(NetworkErrors.Closed(_peer)).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            reason = e;
        }
        catch (Exception e)
        {
            reason = await ExplainAsync(NetworkErrors.Broken(e, _peer)).ConfigureAwait(false); // As above.
        }

        End(reason);
    }

    /// <summary>After the end: when neither sender nor receiver can touch anything, all that waits is lost.</summary>
    private async Task LoseAllAsync()
    {
        lock (_lock)
        {
            if (!_isSending)
            {
                _senderGone.TrySetResult();
            }
        }

        await _senderGone.Task.ConfigureAwait(false);
        await _receiving.ConfigureAwait(false);
        var lost = new List<T>();
        lock (_lock)
        {
            while (_queue.TryDequeue(out T? unsent))
            {
                unsent.Sent();
            }

            for (int slot = 0; slot < Depth; slot++)
            {
                if (_waiting[slot] is { } request)
                {
                    lost.Add(request);
                    _waiting[slot] = null;
                    _free.Push(slot);
                }
            }
        }

        foreach (T request in lost)
        {
            request.Lose();
            _room.Release();
        }

        Release();
        _sendBuffer.Dispose();
        _stop.Dispose();
        _allFailed.SetResult();
    }
}
