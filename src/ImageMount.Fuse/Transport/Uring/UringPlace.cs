using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Protocol;
using ImageMount.Interop;

namespace ImageMount.Fuse.Transport.Uring;

/// <summary>
/// One entry of a queue: a request's place, and the memory that the kernel puts its request into and takes its reply from.
/// <code>
///   0 ..... 128 ..... 256 ............ 288 ....... 320 ....... 4096 .....
///   in/out  the op's  fuse_uring_      two iovecs   (request)  payload, both ways
///   header  header    ent_in_out
/// </code>
/// The kernel hands over the parts of a request one by one; they are put together before byte 4096, so that the request
/// lies there as read(2) would have put it: headers that end where the payload begins.
/// </summary>
/// <remarks>linux/fuse.h: struct fuse_uring_req_header, 288 bytes; the iovecs are ours, for REGISTER.</remarks>
internal sealed unsafe class UringPlace : IFuseReplySink
{
    /// <summary>Room of the op's header.</summary>
    public const int OpHeaderRoom = 128;

    private const int OpHeader = 128;
    private const int Entry = 256;
    private const int CommitId = Entry + 8;
    private const int PayloadSize = Entry + 16;
    private const int Vectors = 288;
    private const int HeaderSize = 288;

    /// <param name="queue">Whose thread submits this entry.</param>
    /// <param name="index">Its number there.</param>
    /// <param name="number">The kernel's queue that it belongs to, a processor's number.</param>
    /// <param name="buffer">Its memory; owned.</param>
    public UringPlace(UringQueue queue, int index, int number, FuseBuffer buffer)
    {
        Queue = queue;
        Index = index;
        Number = number;
        Request = new FuseRequest(buffer);

        // SAFETY: inside the buffer's first page, before any request.
        ulong* vectors = (ulong*)buffer.At(Vectors);
        vectors[0] = (ulong)buffer.At(0);
        vectors[1] = HeaderSize;
        vectors[2] = (ulong)buffer.At(FuseBuffer.PayloadStart);
        vectors[3] = (ulong)(buffer.Length - FuseBuffer.PayloadStart);
    }

    public UringQueue Queue { get; }

    public int Index { get; }

    public int Number { get; }

    public FuseRequest Request { get; }

    /// <summary>Where the two iovecs of the entry are.</summary>
    public byte* VectorAddress => Request.Buffer.At(Vectors);

    /// <summary>What the kernel calls the request that it has put here.</summary>
    public ulong Commit => *(ulong*)Request.Buffer.At(CommitId);

    /// <summary>Where the request begins in the buffer, once it is put together.</summary>
    public int Start { get; private set; }

    /// <summary>Its bytes.</summary>
    public int Length { get; private set; }

    /// <summary>The request's opcode, once it is put together.</summary>
    public FuseOpcode Opcode => (FuseOpcode)(*(uint*)Request.Buffer.At(Start + sizeof(uint)));

    /// <summary>Puts the request together, and EIO into the place of the reply, for whoever sends none.</summary>
    /// <returns>False when the lengths contradict each other: not to be processed.</returns>
    public bool TryAssemble()
    {
        FuseBuffer buffer = Request.Buffer;
        uint declared = *(uint*)buffer.At(0);
        uint payload = *(uint*)buffer.At(PayloadSize);
        long header = (long)declared - WireSize.InHeader - payload;
        bool isSound = header is >= 0 and <= OpHeaderRoom && payload <= buffer.Length - FuseBuffer.PayloadStart;
        int size = isSound ? (int)header : 0;
        Start = FuseBuffer.PayloadStart - WireSize.InHeader - size;
        Length = isSound ? (int)declared : WireSize.InHeader;

        // SAFETY: all inside the first page: the sources end at 256, and the target begins at 4096 - 168 or later.
        Span<byte> page = buffer.GetSpan()[..FuseBuffer.PayloadStart];
        page[..WireSize.InHeader].CopyTo(page[Start..]);
        page.Slice(OpHeader, size).CopyTo(page[(Start + WireSize.InHeader)..]);
        ulong unique = *(ulong*)buffer.At(Start + 8);
        WireWriter.OutHeader(page, WireSize.OutHeader, -Errno.EIO, unique);
        *(uint*)buffer.At(PayloadSize) = 0;
        return isSound;
    }

    /// <summary>Has the request processed. True: the place may be committed; false: it comes back to its queue.</summary>
    public bool Process(FuseServer server) => server.Process(Request, this, Start, Length);

    /// <summary>Puts the reply where the kernel takes it; it goes out when the place is committed.</summary>
    public int Send(FuseRequest request, int start, int length)
    {
        FuseBuffer buffer = Request.Buffer;
        Span<byte> all = buffer.GetSpan();
        all.Slice(start, WireSize.OutHeader).CopyTo(all);
        int payload = length - WireSize.OutHeader;
        if (payload > 0 && start + WireSize.OutHeader != FuseBuffer.PayloadStart)
        {
            all.Slice(start + WireSize.OutHeader, payload).CopyTo(all[FuseBuffer.PayloadStart..]);
        }

        *(uint*)buffer.At(PayloadSize) = (uint)payload;
        return 0;
    }

    /// <inheritdoc/>
    public void Recycle(FuseRequest request) => Queue.GiveBack(this);
}
