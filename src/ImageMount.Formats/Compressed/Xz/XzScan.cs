using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Xz;

/// <summary>A stream of an .xz file, found from its end.</summary>
/// <param name="Check">Kind of check of its blocks.</param>
/// <param name="FirstBlock">Where its blocks begin.</param>
/// <param name="Blocks">Unpadded size and length of each.</param>
internal sealed record XzStream(byte Check, long FirstBlock, List<(long UnpaddedSize, long Length)> Blocks);

/// <summary>
/// Reads the indexes of an .xz file, from the last stream to the first: each ends with a footer that says where its
/// index begins, and the index where the stream does. Nothing is decoded.
/// </summary>
internal sealed class XzScan(BlockNode file, XzOptions options)
{
    private const int RecordBytes = 64;

    private long _records;

    /// <summary>Reads all indexes.</summary>
    public async ValueTask<XzContent> RunAsync(CancellationToken cancellationToken)
    {
        var header = new byte[(int)Math.Min(file.Length, 2 * XzLayout.HeaderSize)];
        await file.ReadAsync(0, header, cancellationToken).ConfigureAwait(false);
        if (XzHeader.ReadHeader(header) is null)
        {
            throw XzHeader.NotXz(header);
        }

        var streams = new List<XzStream>();
        for (long end = file.Length; end > 0;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            (XzStream stream, long start) = await ReadStreamAsync(end, cancellationToken).ConfigureAwait(false);
            streams.Add(stream);
            end = start;
        }

        streams.Reverse();
        var index = new PackedIndex(options.IndexMemory);
        var checks = new List<(byte Check, byte Padding)>();
        foreach (XzStream stream in streams)
        {
            long at = stream.FirstBlock;
            foreach ((long unpadded, long length) in stream.Blocks)
            {
                long stored = XzLayout.Pad(unpadded);
                if (length > 0)
                {
                    index.Add(length, at, stored, 2);
                    checks.Add((stream.Check, (byte)(stored - unpadded)));
                }

                at += stored;
            }

            stream.Blocks.Clear();
            stream.Blocks.Capacity = 0;
        }

        index.CheckSize();
        return new XzContent(file, index, checks, streams.Count, options.DecoderMemory);
    }

    private async ValueTask<(XzStream Stream, long Start)> ReadStreamAsync(
        long end, CancellationToken cancellationToken)
    {
        end = await SkipPaddingAsync(end, cancellationToken).ConfigureAwait(false);
        if (end < (2 * XzLayout.HeaderSize) + XzLayout.MinIndexSize)
        {
            throw BlockException.Invalid("there is no room for an xz stream", 0, $"{end} bytes");
        }

        var bytes = new byte[XzLayout.HeaderSize];
        long footerAt = end - XzLayout.HeaderSize;
        await file.ReadAsync(footerAt, bytes, cancellationToken).ConfigureAwait(false);
        (byte check, long indexSize) = XzHeader.ReadFooter(bytes)
            ?? throw BlockException.Invalid("there is no xz stream footer: the file is cut off or damaged", footerAt);
        long indexAt = footerAt - indexSize;
        if (indexAt < XzLayout.HeaderSize)
        {
            throw BlockException.Invalid("an xz index has an impossible size", footerAt, $"{indexSize} bytes");
        }

        if (indexSize > options.IndexMemory || indexSize > int.MaxValue)
        {
            throw BlockException.Limit(
                "an xz index is too large (option index-memory)", indexSize,
                Math.Min(options.IndexMemory, int.MaxValue), indexAt);
        }

        var blocks = new List<(long UnpaddedSize, long Length)>();
        using (BufferLease index = BufferPool.Shared.Rent((int)indexSize))
        {
            await file.ReadAsync(indexAt, index.Memory, cancellationToken).ConfigureAwait(false);
            ReadIndex(index.Span, indexAt, blocks);
        }

        long size = 0;
        foreach ((long unpadded, long _) in blocks)
        {
            if (unpadded > indexAt - size)
            {
                throw BlockException.Invalid("the blocks of an xz index do not fit into the file", indexAt);
            }

            size += XzLayout.Pad(unpadded);
        }

        long start = indexAt - size - XzLayout.HeaderSize;
        if (start < 0)
        {
            throw BlockException.Invalid("the blocks of an xz index do not fit into the file", indexAt);
        }

        await file.ReadAsync(start, bytes, cancellationToken).ConfigureAwait(false);
        if (XzHeader.ReadHeader(bytes) is not { } named)
        {
            throw BlockException.Invalid("there is no xz stream header where the index says", start);
        }

        if (named != check)
        {
            throw BlockException.Invalid(
                "header and footer of an xz stream name different checks", footerAt, $"{check}", $"{named}");
        }

        return (new XzStream(check, start + XzLayout.HeaderSize, blocks), start);
    }

    /// <summary>Zeroes between and after streams come in fours.</summary>
    private async ValueTask<long> SkipPaddingAsync(long end, CancellationToken cancellationToken)
    {
        const int Piece = 64 << 10;
        using BufferLease buffer = BufferPool.Shared.Rent(Piece);
        long at = end;
        while (at > 0)
        {
            // There is hardly ever any, and there may be many streams.
            int count = (int)Math.Min(at == end ? XzLayout.Alignment : Piece, at);
            await file.ReadAsync(at - count, buffer.Memory[..count], cancellationToken).ConfigureAwait(false);
            int last = buffer.Span[..count].LastIndexOfAnyExcept((byte)0);
            at -= count - 1 - last;
            if (last >= 0)
            {
                break;
            }
        }

        if ((end - at) % XzLayout.Alignment != 0)
        {
            throw BlockException.Invalid("the padding after an xz stream is not a multiple of 4 bytes", at);
        }

        return at;
    }

    private void ReadIndex(ReadOnlySpan<byte> index, long indexAt, List<(long UnpaddedSize, long Length)> blocks)
    {
        BlockException Damaged() => BlockException.Invalid("an xz index is damaged", indexAt);

        ReadOnlySpan<byte> rest = index[..^4];
        if (System.Buffers.Binary.BinaryPrimitives.ReadUInt32LittleEndian(index[^4..]) != XzStreamDecoder.Crc32(rest)
            || rest[0] != 0)
        {
            throw Damaged();
        }

        rest = rest[1..];
        if (!XzHeader.TryReadInteger(ref rest, out long count) || count > rest.Length / 2)
        {
            throw Damaged();
        }

        _records += count + 1;
        if (_records > options.IndexMemory / RecordBytes)
        {
            throw BlockException.Limit(
                "an xz file has too many blocks (option index-memory)", _records, options.IndexMemory / RecordBytes,
                indexAt);
        }

        for (long i = 0; i < count; i++)
        {
            if (!XzHeader.TryReadInteger(ref rest, out long unpadded)
                || !XzHeader.TryReadInteger(ref rest, out long length)
                || unpadded < XzLayout.MinUnpaddedSize)
            {
                throw Damaged();
            }

            blocks.Add((unpadded, length));
        }

        if (rest.Length >= XzLayout.Alignment || rest.ContainsAnyExcept((byte)0))
        {
            throw Damaged();
        }
    }
}
