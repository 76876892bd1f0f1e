using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Nbd;

/// <summary>One connection in its transmission phase. <see cref="NbdReceiver"/> understands what comes.</summary>
internal sealed class NbdConnection : PipelinedConnection<NbdRequest>
{
    private readonly Socket _socket;
    private readonly NbdReceiver _receiver;

    /// <summary>Takes over a connection whose handshake is done; <paramref name="stream"/> owns the socket.</summary>
    public NbdConnection(Socket socket, Stream stream, NbdExport export, string peer)
        : base(peer)
    {
        _socket = socket;
        Output = stream;
        Export = export;
        _receiver = new NbdReceiver(stream, export, Find, Finish);
    }

    /// <summary>What the handshake found.</summary>
    public NbdExport Export { get; }

    /// <inheritdoc/>
    protected override Stream Output { get; }

    /// <inheritdoc/>
    protected override long Received => _receiver.Received;

    /// <summary>Sends a request and waits for its answer. Only reads are cancelled once they are queued.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<NbdOutcome> RequestAsync(NbdRequest request, CancellationToken cancellationToken)
    {
        try
        {
            if (!await TryEnterAsync(cancellationToken).ConfigureAwait(false))
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
            Leave();
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

    /// <inheritdoc/>
    protected override Task<BlockException> ReceiveAllAsync(CancellationToken cancellationToken) =>
        _receiver.RunAsync(cancellationToken);

    /// <inheritdoc/>
    protected override void Abort(BlockException reason)
    {
        if (reason.Kind == BlockErrorKind.TimedOut && _socket.AddressFamily != AddressFamily.Unix)
        {
            // What the kernel still has to send must not reach a server that wakes up later.
            _socket.LingerState = new LingerOption(true, 0);
        }

        Output.Dispose();
    }

    /// <inheritdoc/>
    protected override async ValueTask SayGoodbyeAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(1));
        NbdRequest goodbye = NbdRequest.Rent(NbdCommand.Disconnect, NbdCommandFlags.None, 0, 0, default, default);
        byte[] header = new byte[HeaderSize(goodbye)];
        WriteHeader(goodbye, header);
        await Output.WriteAsync(header, limit.Token).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    protected override void Release() => _receiver.Dispose();

    /// <inheritdoc/>
    protected override int HeaderSize(NbdRequest request) =>
        Export.IsExtended ? Unsafe.SizeOf<NbdExtendedRequestHeader>() : Unsafe.SizeOf<NbdRequestHeader>();

    /// <inheritdoc/>
    protected override void WriteHeader(NbdRequest request, Span<byte> to)
    {
        if (!Export.IsExtended)
        {
            var header = new NbdRequestHeader(
                NbdLayout.RequestMagic, (ushort)request.Flags, (ushort)request.Command, request.Cookie,
                (ulong)request.Offset, (uint)request.Length);
            MemoryMarshal.Write(to, in header);
            return;
        }

        NbdCommandFlags flags = request.Flags
            | (request.Command == NbdCommand.Write ? NbdCommandFlags.PayloadLength : NbdCommandFlags.None);
        var extended = new NbdExtendedRequestHeader(
            NbdLayout.ExtendedRequestMagic, (ushort)flags, (ushort)request.Command, request.Cookie,
            (ulong)request.Offset, (ulong)request.Length);
        MemoryMarshal.Write(to, in extended);
    }

    /// <summary>An answer is complete.</summary>
    private void Finish(NbdRequest request, NbdOutcome outcome)
    {
        if (TryFinish(request))
        {
            request.Answered(outcome);
        }
    }
}
