using System.Buffers.Binary;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Nbd;

/// <summary>
/// Reads answers from a connection and puts payload where the requests want it. Everything that a server says is checked
/// against the request that it is about; the first word that does not fit ends the connection.
/// </summary>
/// <param name="stream">The connection.</param>
/// <param name="export">What was agreed on.</param>
/// <param name="find">The request of a cookie, or null.</param>
/// <param name="finish">Called with each request whose answer is complete.</param>
internal sealed class NbdReceiver(
    Stream stream, NbdExport export, Func<ulong, NbdRequest?> find, Action<NbdRequest, NbdOutcome> finish) : IDisposable
{
    /// <summary>How much is received at once while a buffer is pinned.</summary>
    private const int Piece = 256 << 10;

    /// <summary>Longest list of extents, and longest chunk that is only words, bytes.</summary>
    private const int MaxStatus = 4 << 20;

    private const int MaxWords = 64 << 10;

    private readonly ReceiveBuffer _buffer = new(stream);
    private CancellationToken _stop;

    /// <summary>Bytes received so far.</summary>
    public long Received => _buffer.Received;

    /// <summary>Receives until the connection ends, which is an exception.</summary>
    public async Task<BlockException> RunAsync(CancellationToken stop)
    {
        _stop = stop;
        while (true)
        {
            await _buffer.FillAsync(4, stop).ConfigureAwait(false);
            uint magic = BinaryPrimitives.ReadUInt32BigEndian(_buffer.Take(4));
            switch (magic)
            {
                case NbdLayout.SimpleReplyMagic when !export.IsExtended:
                    await SimpleAsync().ConfigureAwait(false);
                    break;
                case NbdLayout.StructuredReplyMagic when export.IsStructured && !export.IsExtended:
                    await StructuredAsync().ConfigureAwait(false);
                    break;
                case NbdLayout.ExtendedReplyMagic when export.IsExtended:
                    await ExtendedAsync().ConfigureAwait(false);
                    break;
                default:
                    return NbdErrors.Protocol("a reply does not begin with a magic that was agreed on", $"0x{magic:x8}");
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _buffer.Dispose();

    private async ValueTask<T> ReadAsync<T>()
        where T : unmanaged
    {
        int size = System.Runtime.CompilerServices.Unsafe.SizeOf<T>();
        await _buffer.FillAsync(size, _stop).ConfigureAwait(false);
        return System.Runtime.InteropServices.MemoryMarshal.Read<T>(_buffer.Take(size));
    }

    private NbdRequest Known(ulong cookie) =>
        find(cookie) ?? throw NbdErrors.Protocol("a reply is for no request that waits", $"cookie 0x{cookie:x}");

    private async Task SimpleAsync()
    {
        NbdSimpleReply reply = await ReadAsync<NbdSimpleReply>().ConfigureAwait(false);
        NbdRequest request = Known(reply.Cookie);
        if (reply.Error == 0 && request.Command == NbdCommand.Read)
        {
            if (export.IsStructured)
            {
                throw NbdErrors.Protocol("a read has a simple reply, although structured replies were agreed on");
            }

            await PayloadAsync(request, 0, request.Length).ConfigureAwait(false);
        }
        else if (reply.Error == 0 && request.Command == NbdCommand.BlockStatus)
        {
            throw NbdErrors.Protocol("a block status has a simple reply");
        }

        finish(request, OutcomeOf(reply.Error, null));
    }

    private async Task StructuredAsync()
    {
        NbdStructuredReply reply = await ReadAsync<NbdStructuredReply>().ConfigureAwait(false);
        await ChunkAsync(Known(reply.Cookie), reply.Flags, reply.Type, reply.Length).ConfigureAwait(false);
    }

    private async Task ExtendedAsync()
    {
        NbdExtendedReply reply = await ReadAsync<NbdExtendedReply>().ConfigureAwait(false);
        await ChunkAsync(Known(reply.Cookie), reply.Flags, reply.Type, (long)reply.Length.Value).ConfigureAwait(false);
    }

    private async Task ChunkAsync(NbdRequest request, ushort flags, ushort type, long length)
    {
        switch ((NbdChunk)type)
        {
            case NbdChunk.None when length == 0 && (flags & 1) != 0:
                break;
            case NbdChunk.OffsetData when request.Command == NbdCommand.Read:
                await DataAsync(request, length).ConfigureAwait(false);
                break;
            case NbdChunk.OffsetHole when request.Command == NbdCommand.Read:
                await HoleAsync(request, length).ConfigureAwait(false);
                break;
            case NbdChunk.BlockStatus when request.Command == NbdCommand.BlockStatus && !export.IsExtended:
                await StatusAsync(request, length, 8).ConfigureAwait(false);
                break;
            case NbdChunk.BlockStatusExtended when request.Command == NbdCommand.BlockStatus && export.IsExtended:
                await StatusAsync(request, length, 16).ConfigureAwait(false);
                break;
            default:
                await ErrorAsync(request, type, length).ConfigureAwait(false);
                break;
        }

        if ((flags & 1) == 0)
        {
            return;
        }

        if (request.Failure.Kind == NbdOutcomeKind.Ok)
        {
            if (request.Command == NbdCommand.Read && !request.Coverage.IsWhole(request.Length))
            {
                throw NbdErrors.Protocol("the answer to a read leaves out some of its bytes");
            }

            if (request.Command == NbdCommand.BlockStatus && request.Status.Count == 0)
            {
                throw NbdErrors.Protocol("the answer to a block status has no extents");
            }
        }

        finish(request, request.Failure);
    }

    private async Task DataAsync(NbdRequest request, long length)
    {
        if (length <= 8)
        {
            throw NbdErrors.Protocol("a chunk of data is too short", $"{length} bytes");
        }

        Be64 offset = await ReadAsync<Be64>().ConfigureAwait(false);
        long start = Place(request, offset, length - 8);
        await PayloadAsync(request, start, length - 8).ConfigureAwait(false);
    }

    private async Task HoleAsync(NbdRequest request, long length)
    {
        if (length != 12)
        {
            throw NbdErrors.Protocol("a chunk for a hole has a wrong length", $"{length} bytes", "12");
        }

        Be64 offset = await ReadAsync<Be64>().ConfigureAwait(false);
        Be32 count = await ReadAsync<Be32>().ConfigureAwait(false);
        long start = Place(request, offset, count);
        if (request.TryPin())
        {
            request.Target.Span.Slice((int)start, (int)count.Value).Clear();
            request.Unpin();
        }
    }

    /// <summary>Where a chunk begins in its request, which it must not leave.</summary>
    private static long Place(NbdRequest request, ulong offset, long count)
    {
        long start = (long)offset - request.Offset;
        if (start < 0 || count < 1 || start > request.Length - count || !request.Coverage.TryAdd(start, count))
        {
            throw NbdErrors.Protocol(
                "a chunk lies outside what was asked for, or over another", $"0x{offset:x}+0x{count:x}",
                $"within 0x{request.Offset:x}+0x{request.Length:x}");
        }

        return start;
    }

    private async Task PayloadAsync(NbdRequest request, long start, long count)
    {
        while (count > 0)
        {
            int step = (int)Math.Min(count, Piece);
            if (request.TryPin())
            {
                try
                {
                    await _buffer.ReadAsync(request.Target.Slice((int)start, step), _stop).ConfigureAwait(false);
                }
                finally
                {
                    request.Unpin();
                }
            }
            else
            {
                await _buffer.SkipAsync(step, _stop).ConfigureAwait(false);
            }

            start += step;
            count -= step;
        }
    }

    private async Task StatusAsync(NbdRequest request, long length, int entrySize)
    {
        int head = entrySize == 8 ? 4 : 8;
        if (length < head + entrySize || length > MaxStatus || (length - head) % entrySize != 0)
        {
            throw NbdErrors.Protocol("a block status has a wrong length", $"{length} bytes");
        }

        Be32 context = await ReadAsync<Be32>().ConfigureAwait(false);
        if (entrySize == 16)
        {
            await ReadAsync<Be32>().ConfigureAwait(false); // The number of extents, which the length tells as well.
        }

        if (context.Value != export.Context || request.Status.Count > 0)
        {
            throw NbdErrors.Protocol("a block status is for another context, or comes twice", $"{context.Value}");
        }

        long total = 0;
        for (long left = length - head; left > 0; left -= entrySize)
        {
            await _buffer.FillAsync(entrySize, _stop).ConfigureAwait(false);
            var reader = new SpanReader(_buffer.Take(entrySize));
            NbdStatus status;
            if (entrySize == 8)
            {
                reader.TryRead(out Be32 count);
                reader.TryRead(out Be32 flags);
                status = new NbdStatus(count, flags);
            }
            else
            {
                reader.TryRead(out Be64 count);
                reader.TryRead(out Be64 flags);
                status = new NbdStatus((long)Math.Min(count, long.MaxValue), flags);
            }

            if (status.Length < 1)
            {
                throw NbdErrors.Protocol("an extent of a block status is empty");
            }

            // What lies behind the request is not kept: nobody asked, and its sum could overflow.
            long kept = Math.Min(status.Length, request.Length - total);
            if (kept > 0)
            {
                request.Status.Add(status with { Length = kept });
                total += kept;
            }
        }
    }

    private async Task ErrorAsync(NbdRequest request, ushort type, long length)
    {
        bool isError = (type & 0x8000) != 0;
        if (!isError || length is < 6 or > MaxWords)
        {
            throw NbdErrors.Protocol($"chunk {type} with {length} bytes does not answer request {request.Command}");
        }

        Be32 error = await ReadAsync<Be32>().ConfigureAwait(false);
        Be16 words = await ReadAsync<Be16>().ConfigureAwait(false);
        if (words > length - 6)
        {
            throw NbdErrors.Protocol("the text of an error is longer than its chunk");
        }

        int shown = Math.Min((int)words.Value, NbdLayout.MaxString);
        await _buffer.FillAsync(shown, _stop).ConfigureAwait(false);
        string? text = PeerText.Clean(_buffer.Take(shown));
        await _buffer.SkipAsync(length - 6 - shown, _stop).ConfigureAwait(false);
        if (request.Failure.Kind == NbdOutcomeKind.Ok)
        {
            // An error that claims to be none is one all the same.
            request.Failure = OutcomeOf(error == 0 ? (uint)Errno.EINVAL : error, text);
        }
    }

    private static NbdOutcome OutcomeOf(uint error, string? text) => error switch
    {
        0 => default,
        Errno.ESHUTDOWN => new NbdOutcome(NbdOutcomeKind.ShuttingDown),
        _ => new NbdOutcome(NbdOutcomeKind.Refused, error, text),
    };
}
