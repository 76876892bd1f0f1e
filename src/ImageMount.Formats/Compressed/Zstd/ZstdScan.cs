using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Zstd;

/// <summary>
/// Finds the frames of a zstd file: by the seek table at its end, else from frame to frame. The length of a frame's
/// content is in its header, as a rule; where it is not (made from a pipe), the frame is decoded once to count.
/// </summary>
internal sealed class ZstdScan(BlockNode file, ZstdOptions options, IProgress<OpenProgress>? progress)
{
    private readonly PackedIndex _index = new(options.IndexMemory);
    private readonly List<bool> _hasChecksum = [];

    /// <summary>Finds all frames.</summary>
    public async ValueTask<ZstdContent> RunAsync(CancellationToken cancellationToken)
    {
        string indexedBy = "seek table";
        if (!await TryReadSeekTableAsync(cancellationToken).ConfigureAwait(false))
        {
            indexedBy = "frames";
            bool any = false;
            for (long at = 0; at < file.Length; any = true)
            {
                at = await ReadFrameAsync(at, cancellationToken).ConfigureAwait(false);
            }

            if (!any)
            {
                throw BlockException.Invalid("there is no zstd frame", 0);
            }
        }

        return new ZstdContent(file, _index, _hasChecksum, indexedBy, options.DecoderMemory);
    }

    private static BlockException Truncated(long at) =>
        BlockException.Invalid("the zstd file ends in the middle of a frame", at);

    private void Add(long at, long stored, long length, bool hasChecksum)
    {
        if (length > 0)
        {
            _index.Add(length, at, stored, 1);
            _hasChecksum.Add(hasChecksum);
            _index.CheckSize();
        }
    }

    /// <summary>Takes a frame of any kind; gives the place after it.</summary>
    private async ValueTask<long> ReadFrameAsync(long at, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var bytes = new byte[(int)Math.Min(ZstdLayout.MaxFrameHeaderSize, file.Length - at)];
        await file.ReadAsync(at, bytes, cancellationToken).ConfigureAwait(false);
        long end;
        if (TryReadSkippable(bytes, out long size))
        {
            end = at + ZstdLayout.SkippableHeaderSize + size;
        }
        else
        {
            ZstdFrameHeader header = ReadHeader(bytes, at);
            long length;
            if (header.ContentSize is { } known)
            {
                end = await FindEndAsync(at, header, cancellationToken).ConfigureAwait(false);
                length = known;
            }
            else
            {
                (end, length) = await MeasureAsync(at, cancellationToken).ConfigureAwait(false);
            }

            Add(at, end - at, length, header.HasChecksum);
        }

        return end <= file.Length ? end : throw Truncated(at);
    }

    private ZstdFrameHeader ReadHeader(ReadOnlySpan<byte> bytes, long at)
    {
        ZstdFrameHeader header;
        try
        {
            header = ZstdFrameHeader.Read(bytes);
        }
        catch (BlockException e)
        {
            e.Offset = at;
            throw;
        }

        // A small frame is decoded in one go, straight into place, and needs no window.
        bool needsWindow = header.ContentSize is not { } size || size > options.SpoolAbove;
        if (needsWindow && header.WindowSize > options.DecoderMemory)
        {
            throw BlockException.Limit(
                "a zstd frame asks for too large a window (option decoder-memory)", header.WindowSize,
                options.DecoderMemory, at);
        }

        return header;
    }

    private static bool TryReadSkippable(ReadOnlySpan<byte> bytes, out long size)
    {
        var reader = new SpanReader(bytes);
        size = 0;
        if (!reader.TryRead(out Le32 magic) || (magic.Value & ZstdLayout.SkippableMask) != ZstdLayout.SkippableMagic
            || !reader.TryRead(out Le32 length))
        {
            return false;
        }

        size = length.Value;
        return true;
    }

    /// <summary>Goes from block to block to the end of a frame.</summary>
    private async ValueTask<long> FindEndAsync(long at, ZstdFrameHeader header, CancellationToken cancellationToken)
    {
        var bytes = new byte[ZstdLayout.BlockHeaderSize];
        long next = at + header.Size;
        long reported = next;
        while (true)
        {
            if (next > file.Length - bytes.Length)
            {
                throw Truncated(at);
            }

            cancellationToken.ThrowIfCancellationRequested();
            await file.ReadAsync(next, bytes, cancellationToken).ConfigureAwait(false);
            int block = bytes[0] | (bytes[1] << 8) | (bytes[2] << 16);
            int size = block >> 3;
            int type = (block >> 1) & 3;
            if (type == 3 || size > ZstdLayout.MaxBlockSize)
            {
                throw BlockException.Invalid("a zstd block header is damaged", next, $"0x{block:x6}");
            }

            next += ZstdLayout.BlockHeaderSize + (type == 1 ? 1 : size);
            if ((block & 1) != 0)
            {
                return next + (header.HasChecksum ? ZstdLayout.ChecksumSize : 0);
            }

            if (progress is not null && next - reported > 64 << 20)
            {
                reported = next;
                progress.Report(new OpenProgress(file.Name, "indexing", next, file.Length));
            }
        }
    }

    /// <summary>Decodes a frame to find its end and its length.</summary>
    private async ValueTask<(long End, long Length)> MeasureAsync(long at, CancellationToken cancellationToken)
    {
        using var reader = new ForwardReader(file, progress);
        using var decoder = new ZstdFrameDecoder(ZstdContent.WindowLog(options.DecoderMemory));
        using BufferLease output = BufferPool.Shared.Rent(256 << 10);
        reader.Skip(at);
        long length = 0;
        bool ended = false;
        while (!ended)
        {
            await reader.FillAsync(1, cancellationToken).ConfigureAwait(false);
            ended = Step(out int taken, out int given);
            if (!ended && taken == 0 && given == 0)
            {
                throw Truncated(at);
            }

            length += given;
            reader.Skip(taken);
        }

        return (reader.Position, length);

        bool Step(out int taken, out int given)
        {
            NativeDecodeStatus status = decoder.Decode(reader.Bytes, output.Span, out taken, out given);
            try
            {
                return UnitStream.IsEnd(decoder, status, "a zstd frame");
            }
            catch (BlockException e)
            {
                e.Offset = reader.Position + taken;
                throw;
            }
        }
    }

    /// <summary>
    /// Takes over a seek table whose frames fill the file. What it says of each frame is verified when that is decoded.
    /// </summary>
    private async ValueTask<bool> TryReadSeekTableAsync(CancellationToken cancellationToken)
    {
        const int FooterSize = 9;
        if (file.Length < FooterSize + ZstdLayout.SkippableHeaderSize)
        {
            return false;
        }

        var bytes = new byte[FooterSize];
        await file.ReadAsync(file.Length - FooterSize, bytes, cancellationToken).ConfigureAwait(false);
        new SpanReader(bytes).TryRead(out ZstdSeekTableFooter footer);
        if (footer.Magic.Value != ZstdLayout.SeekTableEndMagic
            || (footer.Descriptor & ZstdLayout.SeekTableReservedBits) != 0)
        {
            return false;
        }

        int entrySize = (footer.Descriptor & ZstdLayout.SeekTableChecksumBit) != 0 ? 12 : 8;
        long tableSize = ((long)footer.FrameCount.Value * entrySize) + FooterSize;
        long tableAt = file.Length - tableSize - ZstdLayout.SkippableHeaderSize;
        if (tableAt < 0)
        {
            return false;
        }

        if (tableSize > options.IndexMemory || tableSize > int.MaxValue)
        {
            throw BlockException.Limit(
                "a zstd seek table is too large (option index-memory)", tableSize, options.IndexMemory, tableAt);
        }

        using BufferLease table = BufferPool.Shared.Rent((int)tableSize + ZstdLayout.SkippableHeaderSize);
        await file.ReadAsync(tableAt, table.Memory, cancellationToken).ConfigureAwait(false);
        return TakeSeekTable(table.Span, footer.FrameCount.Value, entrySize, tableSize, tableAt);
    }

    private bool TakeSeekTable(ReadOnlySpan<byte> table, uint count, int entrySize, long tableSize, long tableAt)
    {
        var reader = new SpanReader(table);
        if (!reader.TryRead(out Le32 magic) || magic.Value != ZstdLayout.SeekTableMagic
            || !reader.TryRead(out Le32 size) || size.Value != tableSize)
        {
            return false;
        }

        long total = 0;
        for (uint i = 0; i < count; i++)
        {
            reader.TrySeek(ZstdLayout.SkippableHeaderSize + (int)(i * entrySize));
            reader.TryRead(out Le32 stored);
            total += stored.Value;
        }

        if (total != tableAt)
        {
            return false;
        }

        long at = 0;
        for (uint i = 0; i < count; i++)
        {
            reader.TrySeek(ZstdLayout.SkippableHeaderSize + (int)(i * entrySize));
            reader.TryRead(out Le32 stored);
            reader.TryRead(out Le32 length);
            if (stored.Value == 0 && length.Value > 0)
            {
                throw BlockException.Invalid("a zstd seek table has an empty frame with content", tableAt);
            }

            Add(at, stored.Value, length.Value, hasChecksum: true);
            at += stored.Value;
        }

        return true;
    }
}
