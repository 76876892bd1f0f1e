using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Nbd;

/// <summary>
/// One connection in its transmission phase: a table of requests that wait for answers, a sender that puts what has
/// gathered into few messages, and a receiver (<see cref="NbdReceiver"/>).
/// </summary>
/// <remarks>
/// Whoever queues a request while nobody sends becomes the sender until the queue is empty; so a lone request goes out on
/// the caller's thread, and many at once share a system call. The connection ends once, by whoever notices first;
/// everything that has no answer then completes as lost.
/// </remarks>
internal sealed class NbdConnection
{
    /// <summary>Most requests without an answer at a time.</summary>
    public const int Depth = 64;

    private const int SendBufferSize = 64 << 10;

    /// <summary>Payload up to here is copied together with its header.</summary>
    private const int SmallPayload = 16 << 10;

    private readonly Socket _socket;
    private readonly Stream _stream;
    private readonly string _peer;
    private readonly SemaphoreSlim _room = new(Depth, Depth);
    private readonly Lock _lock = new();
    private readonly NbdRequest?[] _waiting = new NbdRequest?[Depth];
    private readonly Stack<int> _free = new(Enumerable.Range(0, Depth).Reverse());
    private readonly Queue<NbdRequest> _queue = new();
    private readonly BufferLease _sendBuffer = BufferPool.Shared.Rent(SendBufferSize);
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource<BlockException> _ended =
        new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly NbdReceiver _receiver;
    private readonly TaskCompletionSource _senderGone = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _allFailed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Task _receiving = Task.CompletedTask;
    private bool _isSending;
    private bool _isOver;
    private uint _sequence;
    private int _outstanding;
    private long _sent;

    /// <summary>Takes over a connection whose handshake is done; <paramref name="stream"/> owns the socket.</summary>
    public NbdConnection(Socket socket, Stream stream, NbdExport export, string peer)
    {
        _socket = socket;
        _stream = stream;
        _peer = peer;
        Export = export;
        _receiver = new NbdReceiver(stream, export, Find, Finish);
    }

    /// <summary>What the handshake found.</summary>
    public NbdExport Export { get; }

    /// <summary>Requests without an answer.</summary>
    public int Outstanding => Volatile.Read(ref _outstanding);

    /// <summary>Changes when bytes move.</summary>
    public long Progress => _receiver.Received + Volatile.Read(ref _sent);

    /// <summary>Completes with the reason when the connection is over.</summary>
    public Task<BlockException> Ended => _ended.Task;

    /// <summary>Begins to receive.</summary>
    public void Start() => _receiving = ReceiveAsync();

    /// <summary>Sends a request and waits for its answer. Only reads are cancelled once they are queued.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<NbdOutcome> RequestAsync(NbdRequest request, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _outstanding);
        try
        {
            try
            {
                await _room.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                request.Sent();
                request.Answered(new NbdOutcome(NbdOutcomeKind.Cancelled));
                return await request.Task.ConfigureAwait(false);
            }

            if (cancellationToken.CanBeCanceled && request.Command == NbdCommand.Read)
            {
                request.CancelWith(cancellationToken);
            }

            Queue(request);
            return await request.Task.ConfigureAwait(false);
        }
        finally
        {
            Interlocked.Decrement(ref _outstanding);
        }
    }

    /// <summary>Asks for block status. The extents are taken out before the request is recycled.</summary>
    public async ValueTask<(NbdOutcome Outcome, NbdStatus[] Extents)> StatusAsync(NbdRequest request)
    {
        request.Keep();
        try
        {
            NbdOutcome outcome = await RequestAsync(request, CancellationToken.None).ConfigureAwait(false);
            return (outcome, outcome.IsOk ? [.. request.Status] : []);
        }
        finally
        {
            request.Release();
        }
    }

    /// <summary>Ends the connection at once.</summary>
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

        if (reason.Kind == BlockErrorKind.TimedOut && _socket.AddressFamily != AddressFamily.Unix)
        {
            // What the kernel still has to send must not reach a server that wakes up later.
            _socket.LingerState = new LingerOption(true, 0);
        }

        _stop.Cancel();
        _stream.Dispose();
        _ended.TrySetResult(reason);
        _ = FailAllAsync();
    }

    /// <summary>Tells the server that nothing more comes, within a second, and ends.</summary>
    public async ValueTask CloseAsync()
    {
        if (TryTakeSender())
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(1));
            try
            {
                NbdRequest goodbye = NbdRequest.Rent(NbdCommand.Disconnect, NbdCommandFlags.None, 0, 0, default, default);
                int filled = WriteHeader(goodbye, _sendBuffer.Span);
                await _stream.WriteAsync(_sendBuffer.Memory[..filled], limit.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (NetworkErrors.IsNetwork(e) || e is OperationCanceledException)
            {
                End(NetworkErrors.Broken(e, _peer)); // It is gone already.
            }

            LeaveSender();
        }

        End(new BlockException(BlockErrorKind.Cancelled, "the connection is closed"));
        await _allFailed.Task.ConfigureAwait(false);
    }

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

    private void Queue(NbdRequest request)
    {
        lock (_lock)
        {
            if (!_isOver)
            {
                int slot = _free.Pop();
                request.Cookie = ((ulong)++_sequence << 32) | (uint)slot;
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
                request.Answered(new NbdOutcome(NbdOutcomeKind.Lost));
                return;
            }
        }

        _ = SendAsync();
    }

    /// <summary>The request of a cookie, or null.</summary>
    private NbdRequest? Find(ulong cookie)
    {
        lock (_lock)
        {
            uint slot = (uint)cookie;
            return slot < Depth && _waiting[slot] is { } request && request.Cookie == cookie ? request : null;
        }
    }

    /// <summary>An answer is complete.</summary>
    private void Finish(NbdRequest request, NbdOutcome outcome)
    {
        lock (_lock)
        {
            int slot = (int)(uint)request.Cookie;
            if (_waiting[slot] != request)
            {
                return;
            }

            _waiting[slot] = null;
            _free.Push(slot);
        }

        request.Answered(outcome);
        _room.Release();
    }

    private async Task SendAsync()
    {
        NbdRequest? withPayload = null;
        try
        {
            while (true)
            {
                int filled = Gather(out withPayload);
                if (filled == 0)
                {
                    return;
                }

                await _stream.WriteAsync(_sendBuffer.Memory[..filled], _stop.Token).ConfigureAwait(false);
                Volatile.Write(ref _sent, _sent + filled);
                if (withPayload is not null)
                {
                    ReadOnlyMemory<byte> payload = withPayload.Payload;
                    await _stream.WriteAsync(payload, _stop.Token).ConfigureAwait(false);
                    Volatile.Write(ref _sent, _sent + payload.Length);
                    NbdRequest sent = withPayload;
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
            End(NetworkErrors.Broken(e, _peer));
        }
    }

    /// <summary>
    /// Fills the send buffer from the queue. Requests that are wholly in it count as sent, since their memory is not used
    /// any more. A large payload ends the buffer and is sent from where it is. 0: nothing is left, and nobody sends now.
    /// </summary>
    private int Gather(out NbdRequest? withPayload)
    {
        withPayload = null;
        int filled = 0;
        lock (_lock)
        {
            while (!_isOver && _queue.TryPeek(out NbdRequest? request))
            {
                int payload = request.Payload.Length;
                int needed = 32 + (payload <= SmallPayload ? payload : 0);
                if (filled + needed > SendBufferSize)
                {
                    return filled;
                }

                _queue.Dequeue();
                filled += WriteHeader(request, _sendBuffer.Span[filled..]);
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

    private int WriteHeader(NbdRequest request, Span<byte> to)
    {
        if (!Export.IsExtended)
        {
            var header = new NbdRequestHeader(
                NbdLayout.RequestMagic, (ushort)request.Flags, (ushort)request.Command, request.Cookie,
                (ulong)request.Offset, (uint)request.Length);
            MemoryMarshal.Write(to, in header);
            return Unsafe.SizeOf<NbdRequestHeader>();
        }

        NbdCommandFlags flags = request.Flags
            | (request.Command == NbdCommand.Write ? NbdCommandFlags.PayloadLength : NbdCommandFlags.None);
        var extended = new NbdExtendedRequestHeader(
            NbdLayout.ExtendedRequestMagic, (ushort)flags, (ushort)request.Command, request.Cookie,
            (ulong)request.Offset, (ulong)request.Length);
        MemoryMarshal.Write(to, in extended);
        return Unsafe.SizeOf<NbdExtendedRequestHeader>();
    }

    private async Task ReceiveAsync()
    {
        BlockException reason;
        try
        {
            reason = await _receiver.RunAsync(_stop.Token).ConfigureAwait(false);
        }
        catch (EndOfStreamException)
        {
            reason = NetworkErrors.Closed(_peer);
        }
        catch (BlockException e)
        {
            reason = e;
        }
        catch (Exception e)
        {
            reason = NetworkErrors.Broken(e, _peer); // As above.
        }

        End(reason);
    }

    /// <summary>After the end: when neither sender nor receiver can touch anything, all that waits is lost.</summary>
    private async Task FailAllAsync()
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
        var lost = new List<NbdRequest>();
        lock (_lock)
        {
            while (_queue.TryDequeue(out NbdRequest? unsent))
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

        foreach (NbdRequest request in lost)
        {
            request.Answered(new NbdOutcome(NbdOutcomeKind.Lost));
            _room.Release();
        }

        _receiver.Dispose();
        _sendBuffer.Dispose();
        _stop.Dispose();
        _allFailed.SetResult();
    }
}
