using System.Buffers.Binary;
using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Transport;

namespace ImageMount.Fuse.Protocol;

/// <summary>
/// One place for a request in flight: buffer, parsed header, cancellation, counters. Places are made once and used over
/// and over, by one request at a time; that is why a warm request allocates nothing.
/// </summary>
/// <remarks>
/// States, in <c>_state</c>: 0 = free; the request's unique number = in flight; the same with the top bit = somebody is
/// interrupting it this very moment. (The kernel counts uniques up by two from 2, so the top bit is ours.)
/// </remarks>
internal sealed class FuseRequest : IDisposable
{
    private const ulong InterruptingBit = 1UL << 63;

    private ulong _state;
    private CancellationTokenSource _cancellation = new();

    public FuseRequest(FuseBuffer buffer)
    {
        Buffer = buffer;
    }

    public FuseBuffer Buffer { get; }

    /// <summary>Set by the transport with every request.</summary>
    public IFuseReplySink Sink { get; private set; } = null!;

    /// <summary>Offset in the buffer, and length, of the whole request.</summary>
    public int Start { get; private set; }
    public int Length { get; private set; }

    public FuseOpcode Opcode { get; private set; }
    public FuseOperation? Operation { get; set; }
    public ulong Unique { get; private set; }
    public ulong NodeId { get; private set; }
    public FuseRequestContext Context { get; private set; }

    /// <summary>Length of the body without trailing extensions; negative when the header is no good.</summary>
    public int BodyLength { get; private set; }

    /// <summary>What the handler remembers for the moment of completion: bytes asked for.</summary>
    public int Expected { get; set; }

    /// <summary>Where in the buffer the reply's payload starts; page start unless the handler says otherwise.</summary>
    public int ReplyStart { get; set; }

    public bool Replied { get; set; }

    public FuseDirectoryWriter Directory { get; } = new();

    /// <summary>Counts of all requests that used this place; written by one thread at a time.</summary>
    public FusePlaceCounters Counters;

    /// <summary>Fires when this request is interrupted.</summary>
    public CancellationToken Token { get; private set; }

    /// <summary>Highest payload byte ever used: what the buffer costs in memory.</summary>
    public int Touched { get; set; }

    public Span<byte> ReplyPayload(int size) => Buffer.Whole.Span.Slice(ReplyStart, size);

    /// <summary>Where the file system fills in a reply of up to <paramref name="size"/> bytes.</summary>
    public Memory<byte> Destination(int size)
    {
        // What will have been written is counted as if all of it were: the file system may fill in before it fails.
        Touched = Math.Max(Touched, ReplyStart + size - FuseBuffer.PayloadStart);
        return Buffer.Whole.Slice(ReplyStart, size);
    }

    /// <summary>Bytes of payload that a reply may have.</summary>
    public int ReplyRoom => Buffer.Length - ReplyStart;

    /// <summary>Lets the reply begin behind the request, which is then intact while the reply is filled in; the bytes
    /// after <paramref name="structure"/> bytes of the payload are aligned to 8.</summary>
    public void PlaceReplyAfterRequest(int structure)
    {
        int end = Math.Max(Start + Length, FuseBuffer.PayloadStart) + WireSize.OutHeader + structure;
        ReplyStart = ((end + 7) & ~7) - structure;
    }

    public ReadOnlyMemory<byte> Body => Buffer.Whole.Slice(Start + WireSize.InHeader, BodyLength);

    /// <summary>A request of <paramref name="length"/> bytes has been put at <paramref name="start"/>. False when it
    /// is shorter than a header, so that nobody could even be answered.</summary>
    public bool Attach(IFuseReplySink sink, int start, int length)
    {
        Sink = sink;
        Start = start;
        Length = length;
        ReplyStart = FuseBuffer.PayloadStart;
        Replied = false;
        Operation = null;
        Expected = 0;
        if (length < WireSize.InHeader)
        {
            return false;
        }
        // fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, total_extlen (units of 8 bytes), padding
        ReadOnlySpan<byte> header = Buffer.Whole.Span.Slice(start, WireSize.InHeader);
        uint declared = BinaryPrimitives.ReadUInt32LittleEndian(header);
        Opcode = (FuseOpcode)BinaryPrimitives.ReadUInt32LittleEndian(header[4..]);
        Unique = BinaryPrimitives.ReadUInt64LittleEndian(header[8..]);
        NodeId = BinaryPrimitives.ReadUInt64LittleEndian(header[16..]);
        Context = new FuseRequestContext(
            Unique,
            BinaryPrimitives.ReadUInt32LittleEndian(header[24..]),
            BinaryPrimitives.ReadUInt32LittleEndian(header[28..]),
            BinaryPrimitives.ReadUInt32LittleEndian(header[32..]));
        int extensions = BinaryPrimitives.ReadUInt16LittleEndian(header[36..]) * 8;
        BodyLength = declared == (uint)length ? length - WireSize.InHeader - extensions : -1;
        Touched = Math.Max(Touched, start + length - FuseBuffer.PayloadStart);
        return true;
    }

    /// <summary>From here on the request can be interrupted and is waited for by a drain.</summary>
    public void Begin()
    {
        Token = _cancellation.Token;
        Volatile.Write(ref _state, Unique);
    }

    /// <summary>The request has been answered; what Interrupt still does concerns it no more.</summary>
    public void End()
    {
        ulong unique = Unique;
        var spin = new SpinWait();
        while (Interlocked.CompareExchange(ref _state, 0, unique) != unique)
        {
            spin.SpinOnce();
        }
    }

    /// <summary>The unique number of the request in flight here, or 0.</summary>
    public ulong InFlight => Volatile.Read(ref _state) & ~InterruptingBit;

    /// <summary>Cancels the token of request <paramref name="unique"/>. False when it is not here.</summary>
    public bool TryInterrupt(ulong unique)
    {
        if (unique == 0 || Interlocked.CompareExchange(ref _state, unique | InterruptingBit, unique) != unique)
        {
            return false;
        }
        // The source is taken out before it fires, so that the next request here gets a fresh one, and callbacks (which
        // may complete the request, hence call End) run with the state already restored.
        CancellationTokenSource fired = _cancellation;
        _cancellation = new CancellationTokenSource();
        Volatile.Write(ref _state, unique);
        fired.Cancel();
        return true;
    }

    public void Dispose()
    {
        ((IDisposable)Buffer).Dispose();
        _cancellation.Dispose();
    }
}

/// <summary>See <see cref="FuseCounters"/>.</summary>
internal struct FusePlaceCounters
{
    public long Requests;
    public long Errors;
    public long Suspended;
    public long Interrupted;
    public long Reads;
    public long ReadBytes;
    public long Writes;
    public long WriteBytes;
}
