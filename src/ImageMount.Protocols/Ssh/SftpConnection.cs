using System.Buffers.Binary;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ssh;

/// <summary>
/// One connection that speaks SFTP version 3: a table of requests that wait for answers, a sender that puts what has
/// gathered into few writes, and a receiver that puts payload straight where it belongs.
/// </summary>
/// <remarks>
/// Whoever queues a request while nobody sends becomes the sender until the queue is empty. The connection ends once, by
/// whoever notices first; everything that has no answer then completes as lost, when neither sender nor receiver can touch
/// its memory. Everything that a server says is checked against the request that it is about; the first word that does not
/// fit ends the connection.
/// </remarks>
internal sealed class SftpConnection
{
    /// <summary>Most requests without an answer at a time.</summary>
    public const int Depth = 64;

    private const int SlotBits = 6;
    private const int SendBufferSize = 64 << 10;

    /// <summary>Payload up to here is copied together with its header.</summary>
    private const int SmallPayload = 16 << 10;

    private readonly SftpTransport _transport;
    private readonly string _peer;
    private readonly ReceiveBuffer _buffer;
    private readonly SemaphoreSlim _room = new(Depth, Depth);
    private readonly Lock _lock = new();
    private readonly SftpRequest?[] _waiting = new SftpRequest?[Depth];
    private readonly Stack<int> _free = new(Enumerable.Range(0, Depth).Reverse());
    private readonly Queue<SftpRequest> _queue = new();
    private readonly BufferLease _sendBuffer = BufferPool.Shared.Rent(SendBufferSize);
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource<BlockException> _ended =
        new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _senderGone = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _allFailed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly HashSet<string> _extensions = new(StringComparer.Ordinal);
    private Task _receiving = Task.CompletedTask;
    private bool _isSending;
    private bool _isOver;
    private uint _sequence;
    private int _outstanding;
    private long _sent;

    /// <summary>Takes over a transport.</summary>
    public SftpConnection(SftpTransport transport, string peer)
    {
        _transport = transport;
        _peer = peer;
        _buffer = new ReceiveBuffer(transport.Input);
    }

    /// <summary>Requests that wait for an answer or for room.</summary>
    public int Outstanding => Volatile.Read(ref _outstanding);

    /// <summary>Changes when bytes move.</summary>
    public long Progress => _buffer.Received + Volatile.Read(ref _sent);

    /// <summary>Completes with the reason when the connection is over.</summary>
    public Task<BlockException> Ended => _ended.Task;

    /// <summary>True when the server can make things durable.</summary>
    public bool HasFsync => _extensions.Contains(SftpLayout.Fsync);

    /// <summary>Longest read, bytes.</summary>
    public int MaxRead { get; private set; } = SftpLayout.SafeTransfer;

    /// <summary>Longest write, bytes.</summary>
    public int MaxWrite { get; private set; } = SftpLayout.SafeTransfer;

    /// <summary>Greets the server, begins to receive, and asks for its limits.</summary>
    public async Task StartAsync(CancellationToken cancellationToken)
    {
        // Cancelling aborts the transport, which ends every read and write, whatever the streams themselves can do.
        using CancellationTokenRegistration registration = cancellationToken.UnsafeRegister(
            static state => ((SftpTransport)state!).Abort(), _transport);
        BlockException? failure = null;
        try
        {
            await _transport.Output.WriteAsync(SftpPackets.Init(), cancellationToken).ConfigureAwait(false);
            await ReceiveVersionAsync(cancellationToken).ConfigureAwait(false);
            _receiving = ReceiveAsync();
        }
        catch (EndOfStreamException)
        {
            failure = await _transport.ExplainAsync(NetworkErrors.Closed(_peer)).ConfigureAwait(false);
        }
        catch (Exception e) when (NetworkErrors.IsNetwork(e))
        {
            failure = await _transport.ExplainAsync(NetworkErrors.Broken(e, _peer)).ConfigureAwait(false);
        }

        cancellationToken.ThrowIfCancellationRequested();
        if (failure is not null)
        {
            throw failure;
        }

        if (_extensions.Contains(SftpLayout.Limits))
        {
            await AskLimitsAsync().ConfigureAwait(false);
        }

        cancellationToken.ThrowIfCancellationRequested();
    }

    /// <summary>Sends a request and waits for its end. Only reads are cancelled once they are queued.</summary>
    public async ValueTask<SftpReply> RequestAsync(SftpRequest request, CancellationToken cancellationToken)
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
                return new SftpReply(SftpOutcome.Cancelled);
            }

            Queue(request);
            if (!cancellationToken.CanBeCanceled || request.Target.IsEmpty)
            {
                return await request.Task.ConfigureAwait(false);
            }

            using (cancellationToken.UnsafeRegister(static state => ((SftpRequest)state!).Cancel(), request))
            {
                return await request.Task.ConfigureAwait(false);
            }
        }
        finally
        {
            Interlocked.Decrement(ref _outstanding);
        }
    }

    /// <summary>Sends a request that is neither cancelled nor has a payload.</summary>
    public ValueTask<SftpReply> RequestAsync(byte[] packet, SftpType expects) =>
        RequestAsync(new SftpRequest(packet, expects), CancellationToken.None);

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

        _transport.Abort();
        _stop.Cancel();
        _ended.TrySetResult(reason);
        _ = FailAllAsync();
    }

    /// <summary>Ends it in good order, within about a second.</summary>
    public async ValueTask CloseAsync()
    {
        if (TryTakeSender())
        {
            await _transport.CloseAsync().ConfigureAwait(false);
            LeaveSender();
        }

        End(new BlockException(BlockErrorKind.Cancelled, "the connection is closed"));
        await _allFailed.Task.ConfigureAwait(false);
    }

    private async ValueTask ReceiveVersionAsync(CancellationToken cancellationToken)
    {
        await _buffer.FillAsync(9, cancellationToken).ConfigureAwait(false);
        ParseVersion(_buffer.Take(9), out int rest);
        await _buffer.FillAsync(rest, cancellationToken).ConfigureAwait(false);
        ParseExtensions(_buffer.Take(rest));
    }

    private static void ParseVersion(ReadOnlySpan<byte> bytes, out int rest)
    {
        uint length = BinaryPrimitives.ReadUInt32BigEndian(bytes);
        if (length is < 5 or > SftpLayout.MaxSmall || bytes[4] != (byte)SftpType.Version)
        {
            // What a login script prints looks like the length of a packet.
            bool isText = bytes.IndexOfAnyExceptInRange((byte)0x20, (byte)0x7E) < 0;
            throw isText
                ? new BlockException(BlockErrorKind.InvalidData, "the server sends text where SFTP should begin")
                {
                    Found = $"'{Encoding.ASCII.GetString(bytes)}…'",
                    Hint = "A start script of the user on the server prints something; it must not when nobody is logged in.",
                }
                : SftpErrors.Protocol("its first packet is not its version", $"type {bytes[4]}, {length} bytes");
        }

        uint version = BinaryPrimitives.ReadUInt32BigEndian(bytes[5..]);
        if (version != SftpLayout.Version)
        {
            throw new BlockException(BlockErrorKind.NotSupported, "the server speaks another version of SFTP")
            {
                Found = $"{version}",
                Expected = $"{SftpLayout.Version}",
            };
        }

        rest = (int)length - 5;
    }

    private void ParseExtensions(ReadOnlySpan<byte> body)
    {
        var reader = new SftpReader(body);
        while (reader.Remaining > 0)
        {
            _extensions.Add(Encoding.ASCII.GetString(reader.Text()));
            reader.Text();
        }
    }

    private async Task AskLimitsAsync()
    {
        SftpReply reply = await RequestAsync(SftpPackets.Extended(SftpLayout.Limits), SftpType.ExtendedReply)
            .ConfigureAwait(false);
        if (reply.Outcome == SftpOutcome.Lost)
        {
            throw await _ended.Task.ConfigureAwait(false);
        }

        if (reply.IsOk)
        {
            var reader = new SftpReader(reply.Body);
            ulong packet = reader.U64();
            MaxRead = Usable(reader.U64(), packet);
            MaxWrite = Usable(reader.U64(), packet);
        }
    }

    /// <summary>A limit of the server (0: it has none to tell) within what is sensible.</summary>
    private static int Usable(ulong limit, ulong packet)
    {
        ulong most = packet is 0 ? SftpLayout.MaxTransfer : packet > 1024 ? packet - 1024 : 0;
        limit = Math.Min(limit == 0 ? SftpLayout.SafeTransfer : limit, Math.Min(most, SftpLayout.MaxTransfer));
        return limit >= 512 ? (int)limit : throw SftpErrors.Protocol(
            "its limits leave no room for data", $"{limit} bytes", "512 or more");
    }

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

    private void Queue(SftpRequest request)
    {
        lock (_lock)
        {
            if (_isOver)
            {
                _room.Release();
                request.Sent();
                request.Answered(new SftpReply(SftpOutcome.Lost));
                return;
            }

            int slot = _free.Pop();
            request.Id = (++_sequence << SlotBits) | (uint)slot;
            _waiting[slot] = request;
            _queue.Enqueue(request);
            if (_isSending)
            {
                return;
            }

            _isSending = true;
        }

        _ = SendAsync();
    }

    private SftpRequest? Find(uint id)
    {
        lock (_lock)
        {
            return _waiting[id & (Depth - 1)] is { } request && request.Id == id ? request : null;
        }
    }

    private void Finish(SftpRequest request, SftpReply reply)
    {
        lock (_lock)
        {
            int slot = (int)(request.Id & (Depth - 1));
            if (_waiting[slot] != request)
            {
                return;
            }

            _waiting[slot] = null;
            _free.Push(slot);
        }

        request.Answered(reply);
        _room.Release();
    }

    private async Task SendAsync()
    {
        SftpRequest? withPayload = null;
        try
        {
            while (true)
            {
                int filled = Gather(out withPayload);
                if (filled == 0)
                {
                    return;
                }

                await _transport.Output.WriteAsync(_sendBuffer.Memory[..filled], _stop.Token).ConfigureAwait(false);
                Volatile.Write(ref _sent, _sent + filled);
                if (withPayload is not null)
                {
                    ReadOnlyMemory<byte> payload = withPayload.Payload;
                    await _transport.Output.WriteAsync(payload, _stop.Token).ConfigureAwait(false);
                    Volatile.Write(ref _sent, _sent + payload.Length);
                    SftpRequest sent = withPayload;
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
            End(await _transport.ExplainAsync(NetworkErrors.Broken(e, _peer)).ConfigureAwait(false));
        }
    }

    /// <summary>
    /// Fills the send buffer from the queue. Requests that are wholly in it count as sent. A large payload ends the buffer
    /// and is sent from where it is. 0: nothing is left, and nobody sends now.
    /// </summary>
    private int Gather(out SftpRequest? withPayload)
    {
        withPayload = null;
        int filled = 0;
        lock (_lock)
        {
            while (!_isOver && _queue.TryPeek(out SftpRequest? request))
            {
                int payload = request.Payload.Length;
                int needed = request.Packet.Length + (payload <= SmallPayload ? payload : 0);
                if (filled + needed > SendBufferSize)
                {
                    return filled;
                }

                _queue.Dequeue();
                request.Packet.CopyTo(_sendBuffer.Span[filled..]);
                filled += request.Packet.Length;
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
            while (true)
            {
                await ReceivePacketAsync().ConfigureAwait(false);
            }
        }
        catch (EndOfStreamException)
        {
            reason = await _transport.ExplainAsync(NetworkErrors.Closed(_peer)).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            reason = e;
        }
        catch (Exception e)
        {
            // As above.
            reason = await _transport.ExplainAsync(NetworkErrors.Broken(e, _peer)).ConfigureAwait(false);
        }

        End(reason);
    }

    private async ValueTask ReceivePacketAsync()
    {
        await _buffer.FillAsync(SftpLayout.HeaderSize, _stop.Token).ConfigureAwait(false);
        (uint length, SftpType type, uint id) = ParseHeader(_buffer.Take(SftpLayout.HeaderSize));
        SftpRequest request = Find(id) ?? throw SftpErrors.Protocol("an answer is for no request that waits", $"id {id}");
        if (type != SftpType.Status && type != request.Expects)
        {
            throw SftpErrors.Protocol(
                "an answer has another type than its request", $"{(byte)type}", $"{(byte)request.Expects}");
        }

        if (type == SftpType.Data)
        {
            await DataAsync(request, length - 5).ConfigureAwait(false);
            return;
        }

        if (length < 5 || length - 5 > SftpLayout.MaxSmall)
        {
            throw SftpErrors.Protocol("an answer is too short or too long", $"{length} bytes");
        }

        int rest = (int)length - 5;
        await _buffer.FillAsync(rest, _stop.Token).ConfigureAwait(false);
        Finish(request, Parse(request, type, _buffer.Take(rest)));
    }

    private static (uint Length, SftpType Type, uint Id) ParseHeader(ReadOnlySpan<byte> bytes) => (
        BinaryPrimitives.ReadUInt32BigEndian(bytes), (SftpType)bytes[4], BinaryPrimitives.ReadUInt32BigEndian(bytes[5..]));

    private async ValueTask DataAsync(SftpRequest request, uint rest)
    {
        await _buffer.FillAsync(4, _stop.Token).ConfigureAwait(false);
        uint count = BinaryPrimitives.ReadUInt32BigEndian(_buffer.Take(4));
        if (count == 0 || count > (uint)request.Target.Length || (ulong)count + 4 != rest)
        {
            throw SftpErrors.Protocol(
                "a read has no bytes, or too many", $"{count} in a packet of {rest}", $"1 to {request.Target.Length}");
        }

        if (!request.TryPin())
        {
            await _buffer.SkipAsync(count, _stop.Token).ConfigureAwait(false);
        }
        else
        {
            try
            {
                await _buffer.ReadAsync(request.Target[..(int)count], _stop.Token).ConfigureAwait(false);
            }
            finally
            {
                request.Unpin();
            }
        }

        Finish(request, new SftpReply(SftpOutcome.Ok, (int)count));
    }

    private static SftpReply Parse(SftpRequest request, SftpType type, ReadOnlySpan<byte> body)
    {
        if (type != SftpType.Status)
        {
            return new SftpReply(SftpOutcome.Ok, Body: body.ToArray());
        }

        var reader = new SftpReader(body);
        var status = (SftpStatus)reader.U32();
        string? message = reader.Remaining >= 4 ? PeerText.Clean(reader.Text()) : null;
        if (status != SftpStatus.Ok)
        {
            return new SftpReply(SftpOutcome.Refused, 0, status, message);
        }

        return request.Expects == SftpType.Status ? new SftpReply(SftpOutcome.Ok) : throw SftpErrors.Protocol(
            "it says 'done' to what has more to say", null, $"an answer of type {(byte)request.Expects}");
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
        var lost = new List<SftpRequest>();
        lock (_lock)
        {
            while (_queue.TryDequeue(out SftpRequest? unsent))
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

        foreach (SftpRequest request in lost)
        {
            request.Answered(new SftpReply(SftpOutcome.Lost));
            _room.Release();
        }

        _buffer.Dispose();
        _sendBuffer.Dispose();
        _stop.Dispose();
        _allFailed.SetResult();
    }
}
