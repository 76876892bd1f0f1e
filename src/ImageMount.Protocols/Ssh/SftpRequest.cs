using System.Buffers.Binary;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ssh;

/// <summary>How a request ended, and what came of it.</summary>
/// <param name="Outcome">How.</param>
/// <param name="Count">Bytes that a read has got.</param>
/// <param name="Status">Why it was refused.</param>
/// <param name="Message">The server's words, or null.</param>
/// <param name="Body">Body of a handle, of attributes or of an extended answer.</param>
internal readonly record struct SftpReply(
    ReplyOutcome Outcome, int Count = 0, SftpStatus Status = SftpStatus.Ok, string? Message = null, byte[]? Body = null)
    : IRemoteReply
{
    /// <summary>True when it was done.</summary>
    public bool IsOk => Outcome == ReplyOutcome.Ok;
}

/// <summary>
/// One request on its way. It ends when its last byte was sent and its answer has come; until then the connection may use
/// the caller's memory. A cancelled read ends at once, unless bytes are being put into its buffer at that moment; its
/// answer goes nowhere then. Other requests are not cancelled once queued: the server carries them out all the same.
/// </summary>
/// <param name="packet">From the length up to the payload.</param>
/// <param name="expects">Type of the answer when it goes well.</param>
internal sealed class SftpRequest(byte[] packet, SftpType expects) : IPipelinedRequest
{
    private readonly Lock _lock = new();
    private readonly TaskCompletionSource<SftpReply> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private SftpReply _reply;
    private int _parts = 2;
    private bool _isPinned;
    private bool _isCancelled;

    /// <summary>From the length up to the payload.</summary>
    public byte[] Packet => packet;

    /// <summary>What is sent after it, from where it is.</summary>
    public ReadOnlyMemory<byte> Payload { get; init; }

    /// <summary>Where the bytes of a read go.</summary>
    public Memory<byte> Target { get; init; }

    /// <summary>Type of the answer when it goes well.</summary>
    public SftpType Expects => expects;

    /// <summary>Names it in the connection; 32 bits.</summary>
    public ulong Cookie
    {
        get => BinaryPrimitives.ReadUInt32BigEndian(packet.AsSpan(5));
        set => BinaryPrimitives.WriteUInt32BigEndian(packet.AsSpan(5), (uint)value);
    }

    /// <summary>The result.</summary>
    public Task<SftpReply> Task => _done.Task;

    /// <summary>Detaches the request from its buffer; for reads only.</summary>
    public void Cancel()
    {
        lock (_lock)
        {
            _isCancelled = true;
            if (!_isPinned)
            {
                _done.TrySetResult(new SftpReply(ReplyOutcome.Cancelled));
            }
        }
    }

    /// <summary>Allows the receiver to write to the target until <see cref="Unpin"/>; false: it is not ours any more.</summary>
    public bool TryPin()
    {
        lock (_lock)
        {
            return _isPinned = !_isCancelled;
        }
    }

    /// <summary>The receiver does not touch the target now.</summary>
    public void Unpin()
    {
        lock (_lock)
        {
            _isPinned = false;
            if (_isCancelled)
            {
                _done.TrySetResult(new SftpReply(ReplyOutcome.Cancelled));
            }
        }
    }

    /// <summary>The last byte was sent, or never will be.</summary>
    public void Sent() => FinishPart();

    /// <summary>The answer is complete, or never will be.</summary>
    public void Answered(SftpReply reply)
    {
        _reply = reply;
        FinishPart();
    }

    /// <inheritdoc/>
    public void Lose() => Answered(new SftpReply(ReplyOutcome.Lost));

    private void FinishPart()
    {
        if (Interlocked.Decrement(ref _parts) == 0)
        {
            _done.TrySetResult(_reply);
        }
    }
}
