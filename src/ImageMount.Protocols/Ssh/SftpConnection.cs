using System.Buffers.Binary;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ssh;

/// <summary>
/// One connection that speaks SFTP version 3. Payload goes straight where it belongs. Everything that a server says is
/// checked against the request that it is about; the first word that does not fit ends the connection.
/// </summary>
internal sealed class SftpConnection : PipelinedConnection<SftpRequest>
{
    private readonly SftpTransport _transport;
    private readonly string _peer;
    private readonly ReceiveBuffer _buffer;
    private readonly HashSet<string> _extensions = new(StringComparer.Ordinal);

    /// <summary>Takes over a transport.</summary>
    public SftpConnection(SftpTransport transport, string peer)
        : base(peer)
    {
        _transport = transport;
        _peer = peer;
        _buffer = new ReceiveBuffer(transport.Input);
    }

    /// <summary>True when the server can make things durable.</summary>
    public bool HasFsync => _extensions.Contains(SftpLayout.Fsync);

    /// <summary>Longest read, bytes.</summary>
    public int MaxRead { get; private set; } = SftpLayout.SafeTransfer;

    /// <summary>Longest write, bytes.</summary>
    public int MaxWrite { get; private set; } = SftpLayout.SafeTransfer;

    /// <inheritdoc/>
    protected override Stream Output => _transport.Output;

    /// <inheritdoc/>
    protected override long Received => _buffer.Received;

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
            Start();
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
        try
        {
            if (!await TryEnterAsync(cancellationToken).ConfigureAwait(false))
            {
                return new SftpReply(ReplyOutcome.Cancelled);
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
            Leave();
        }
    }

    /// <summary>Sends a request that is neither cancelled nor has a payload.</summary>
    public ValueTask<SftpReply> RequestAsync(byte[] packet, SftpType expects) =>
        RequestAsync(new SftpRequest(packet, expects), CancellationToken.None);

    /// <inheritdoc/>
    protected override void Abort(BlockException reason) => _transport.Abort();

    /// <inheritdoc/>
    protected override ValueTask SayGoodbyeAsync() => _transport.CloseAsync();

    /// <inheritdoc/>
    protected override ValueTask<BlockException> ExplainAsync(BlockException reason) => _transport.ExplainAsync(reason);

    /// <inheritdoc/>
    protected override void Release() => _buffer.Dispose();

    /// <inheritdoc/>
    protected override int HeaderSize(SftpRequest request) => request.Packet.Length;

    /// <inheritdoc/>
    protected override void WriteHeader(SftpRequest request, Span<byte> to) => request.Packet.CopyTo(to);

    /// <inheritdoc/>
    protected override async Task<BlockException> ReceiveAllAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            await ReceivePacketAsync(cancellationToken).ConfigureAwait(false);
        }
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
        if (reply.Outcome == ReplyOutcome.Lost)
        {
            throw await Ended.ConfigureAwait(false);
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

    private async ValueTask ReceivePacketAsync(CancellationToken cancellationToken)
    {
        await _buffer.FillAsync(SftpLayout.HeaderSize, cancellationToken).ConfigureAwait(false);
        (uint length, SftpType type, uint id) = ParseHeader(_buffer.Take(SftpLayout.HeaderSize));
        SftpRequest request = Find(id) ?? throw SftpErrors.Protocol("an answer is for no request that waits", $"id {id}");
        if (type != SftpType.Status && type != request.Expects)
        {
            throw SftpErrors.Protocol(
                "an answer has another type than its request", $"{(byte)type}", $"{(byte)request.Expects}");
        }

        if (type == SftpType.Data)
        {
            await DataAsync(request, length - 5, cancellationToken).ConfigureAwait(false);
            return;
        }

        if (length < 5 || length - 5 > SftpLayout.MaxSmall)
        {
            throw SftpErrors.Protocol("an answer is too short or too long", $"{length} bytes");
        }

        int rest = (int)length - 5;
        await _buffer.FillAsync(rest, cancellationToken).ConfigureAwait(false);
        Finish(request, Parse(request, type, _buffer.Take(rest)));
    }

    private static (uint Length, SftpType Type, uint Id) ParseHeader(ReadOnlySpan<byte> bytes) => (
        BinaryPrimitives.ReadUInt32BigEndian(bytes), (SftpType)bytes[4], BinaryPrimitives.ReadUInt32BigEndian(bytes[5..]));

    private async ValueTask DataAsync(SftpRequest request, uint rest, CancellationToken cancellationToken)
    {
        await _buffer.FillAsync(4, cancellationToken).ConfigureAwait(false);
        uint count = BinaryPrimitives.ReadUInt32BigEndian(_buffer.Take(4));
        if (count == 0 || count > (uint)request.Target.Length || (ulong)count + 4 != rest)
        {
            throw SftpErrors.Protocol(
                "a read has no bytes, or too many", $"{count} in a packet of {rest}", $"1 to {request.Target.Length}");
        }

        if (!request.TryPin())
        {
            await _buffer.SkipAsync(count, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            try
            {
                await _buffer.ReadAsync(request.Target[..(int)count], cancellationToken).ConfigureAwait(false);
            }
            finally
            {
                request.Unpin();
            }
        }

        Finish(request, new SftpReply(ReplyOutcome.Ok, (int)count));
    }

    private static SftpReply Parse(SftpRequest request, SftpType type, ReadOnlySpan<byte> body)
    {
        if (type != SftpType.Status)
        {
            return new SftpReply(ReplyOutcome.Ok, Body: body.ToArray());
        }

        var reader = new SftpReader(body);
        var status = (SftpStatus)reader.U32();
        string? message = reader.Remaining >= 4 ? PeerText.Clean(reader.Text()) : null;
        if (status != SftpStatus.Ok)
        {
            return new SftpReply(ReplyOutcome.Refused, 0, status, message);
        }

        return request.Expects == SftpType.Status ? new SftpReply(ReplyOutcome.Ok) : throw SftpErrors.Protocol(
            "it says 'done' to what has more to say", null, $"an answer of type {(byte)request.Expects}");
    }

    private void Finish(SftpRequest request, SftpReply reply)
    {
        if (TryFinish(request))
        {
            request.Answered(reply);
        }
    }
}
