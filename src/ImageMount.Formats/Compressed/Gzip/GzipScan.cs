using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Gzip;

/// <summary>
/// Finds the units of a gzip file. A file of BGZF blocks is a chain of headers that say how long each block is. Any
/// other is decoded once from front to back, because gzip says nowhere how long its content is (the trailer has it
/// modulo 4 GiB, for the last member only); on the way checkpoints are made, every trailer is compared, and zeroes are
/// noted. With verify=off the table of a dictzip file is believed.
/// </summary>
internal sealed class GzipScan : IDisposable
{
    private const int OutputSize = 256 << 10;

    private readonly BlockNode _file;
    private readonly GzipOptions _options;
    private readonly ForwardReader _reader;
    private readonly GzipCheckpoints _checkpoints;
    private readonly InflateStreamDecoder _inflate = new() { StopsAtBlocks = true };
    private string _indexedBy = "bgzf";

    // The unit that is being made.
    private long _length;
    private long _hostOffset;
    private byte _bits;
    private byte[]? _window;
    private uint _crc;
    private bool _allZero;

    // The member that it is part of.
    private uint _memberCrc;
    private long _memberLength;

    /// <summary>Prepares the pass.</summary>
    public GzipScan(BlockNode file, GzipOptions options, IProgress<OpenProgress>? progress)
    {
        _file = file;
        _options = options;
        _reader = new ForwardReader(file, progress);
        _checkpoints = new GzipCheckpoints(new PackedIndex(options.IndexMemory), options.CheckpointDistance);
    }

    /// <summary>Does the pass.</summary>
    public async ValueTask<GzipContent> RunAsync(CancellationToken cancellationToken)
    {
        GzipHeader header = await ReadHeaderAsync(cancellationToken).ConfigureAwait(false)
            ?? throw BlockException.Invalid("the file is empty", 0);
        if (!_options.Verify && header.Chunks is { } chunks
            && await TryTableAsync(header, chunks, cancellationToken).ConfigureAwait(false))
        {
            _indexedBy = "dictzip";
            return new GzipContent(_file, _checkpoints, _indexedBy);
        }

        for (GzipHeader? next = header; next is not null;)
        {
            if (next.BgzfSize is { } size)
            {
                await TakeBlockAsync(next, size, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await DecodeMemberAsync(next, cancellationToken).ConfigureAwait(false);
            }

            next = await ReadHeaderAsync(cancellationToken).ConfigureAwait(false);
        }

        return new GzipContent(_file, _checkpoints, _indexedBy);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _reader.Dispose();
        _inflate.Dispose();
    }

    private static BlockException Truncated(long position) =>
        BlockException.Invalid("the gzip file ends in the middle of a member", position);

    /// <summary>The header at the reader's place, which stays there; null at the end of the file.</summary>
    private async ValueTask<GzipHeader?> ReadHeaderAsync(CancellationToken cancellationToken)
    {
        // A header is short as a rule; the longest is only waited for when it is needed.
        foreach (int wanted in (int[])[4096, GzipLayout.MaxHeaderSize])
        {
            if (!await _reader.FillAsync(wanted, cancellationToken).ConfigureAwait(false))
            {
                return null;
            }

            if (_reader.Position > 0 && _reader.Bytes[0] == 0)
            {
                // Tapes and block devices pad with zeroes. Anything else may be a damaged member, whose content must
                // not be left out without a word.
                await SkipZeroesAsync(cancellationToken).ConfigureAwait(false);
                return null;
            }

            try
            {
                if (GzipHeader.Read(_reader.Bytes) is { } header)
                {
                    return header;
                }
            }
            catch (BlockException e)
            {
                e.Offset = _reader.Position;
                throw;
            }
        }

        throw Truncated(_reader.Position);
    }

    private async ValueTask SkipZeroesAsync(CancellationToken cancellationToken)
    {
        while (await _reader.FillAsync(1, cancellationToken).ConfigureAwait(false))
        {
            int other = _reader.Bytes.IndexOfAnyExcept((byte)0);
            if (other >= 0)
            {
                throw BlockException.Invalid(
                    "what follows a gzip member is no gzip member", _reader.Position + other);
            }

            _reader.Skip(_reader.Bytes.Length);
        }
    }

    /// <summary>A BGZF block: its header and trailer say everything.</summary>
    private async ValueTask TakeBlockAsync(GzipHeader header, int size, CancellationToken cancellationToken)
    {
        long start = _reader.Position;
        if (size < header.Length + GzipLayout.TrailerSize || size > _file.Length - start)
        {
            throw BlockException.Invalid("a BGZF block has an impossible size", start, $"{size} bytes");
        }

        _reader.Skip(size - GzipLayout.TrailerSize);
        GzipTrailer trailer = await ReadTrailerAsync(cancellationToken).ConfigureAwait(false);
        if (trailer.Length.Value > GzipLayout.MaxBgzfContent)
        {
            throw BlockException.Invalid(
                "a BGZF block is too long", start, $"{trailer.Length.Value} bytes", $"{GzipLayout.MaxBgzfContent}");
        }

        if (trailer.Length.Value > 0)
        {
            _checkpoints.Add(
                trailer.Length.Value, start + header.Length, size - header.Length - GzipLayout.TrailerSize,
                new GzipCheckpoint(null, trailer.Crc.Value, 0, EndsStream: true, HasCrc: true));
        }
    }

    private async ValueTask<GzipTrailer> ReadTrailerAsync(CancellationToken cancellationToken)
    {
        await _reader.FillAsync(GzipLayout.TrailerSize, cancellationToken).ConfigureAwait(false);
        var bytes = new SpanReader(_reader.Bytes);
        if (!bytes.TryRead(out GzipTrailer trailer))
        {
            throw Truncated(_file.Length);
        }

        _reader.Skip(GzipLayout.TrailerSize);
        return trailer;
    }

    private async ValueTask DecodeMemberAsync(GzipHeader header, CancellationToken cancellationToken)
    {
        _indexedBy = "decoding";
        long memberStart = _reader.Position;
        _reader.Skip(header.Length);
        _inflate.Reset();
        _memberCrc = 0;
        _memberLength = 0;
        Begin(0, null);
        using BufferLease output = BufferPool.Shared.Rent(OutputSize);
        bool ended = false;
        while (!ended)
        {
            await _reader.FillAsync(1, cancellationToken).ConfigureAwait(false);
            ended = Step(output.Span);
            if (!ended && _inflate.IsBetweenBlocks && _length >= _checkpoints.Distance)
            {
                Checkpoint();
            }
        }

        Finish(_reader.Position, endsStream: true);
        GzipTrailer trailer = await ReadTrailerAsync(cancellationToken).ConfigureAwait(false);
        if (trailer.Crc.Value != _memberCrc || trailer.Length.Value != (uint)_memberLength)
        {
            throw BlockException.Invalid(
                "the content of a gzip member does not have its checksum and length", memberStart,
                $"0x{_memberCrc:x8}, {(uint)_memberLength}", $"0x{trailer.Crc.Value:x8}, {trailer.Length.Value}");
        }
    }

    /// <summary>One call of the decoder; true at the end of the stream.</summary>
    private bool Step(Span<byte> output)
    {
        ReadOnlySpan<byte> stored = _reader.Bytes;
        NativeDecodeStatus status = _inflate.Decode(stored, output, out int taken, out int given);
        bool ended;
        try
        {
            ended = UnitStream.IsEnd(_inflate, status, "a deflate stream");
        }
        catch (BlockException e)
        {
            e.Offset = _reader.Position + taken;
            throw;
        }

        ReadOnlySpan<byte> made = output[..given];
        _crc = InflateStreamDecoder.Crc32(_crc, made);
        _allZero = _allZero && !made.ContainsAnyExcept((byte)0);
        _length += given;
        _reader.Skip(taken);
        if (!ended && taken == 0 && given == 0 && stored.IsEmpty)
        {
            throw Truncated(_reader.Position);
        }

        return ended;
    }

    private void Begin(byte bits, byte[]? window)
    {
        _length = 0;
        _hostOffset = _reader.Position - (bits > 0 ? 1 : 0);
        _bits = bits;
        _window = window;
        _crc = 0;
        _allZero = true;
    }

    private void Checkpoint()
    {
        Finish(_reader.Position, endsStream: false);
        using BufferLease window = BufferPool.Shared.Rent(InflateStreamDecoder.WindowSize);
        int length = _inflate.GetWindow(window.Span);
        Begin((byte)_inflate.UnusedBits, GzipCheckpoints.Pack(window.Span[..length]));
    }

    private void Finish(long hostEnd, bool endsStream)
    {
        _memberCrc = InflateStreamDecoder.CombineCrc32(_memberCrc, _crc, _length);
        _memberLength += _length;
        if (_length > 0 && _allZero)
        {
            _checkpoints.AddZeroes(_length, _hostOffset);
        }
        else if (_length > 0)
        {
            _checkpoints.Add(
                _length, _hostOffset, hostEnd - _hostOffset,
                new GzipCheckpoint(_window, _crc, _bits, endsStream, HasCrc: true));
        }
    }

    /// <summary>
    /// Takes over dictzip's table when it fits the file: one member, whose length the trailer then tells in full,
    /// because a table has too few chunks for 4 GiB.
    /// </summary>
    private async ValueTask<bool> TryTableAsync(
        GzipHeader header, GzipChunkTable chunks, CancellationToken cancellationToken)
    {
        long stored = chunks.StoredLengths.Sum(length => (long)length);
        long end = header.Length + stored;
        long rest = _file.Length - GzipLayout.TrailerSize - end;
        if (rest is < 0 or > 16)
        {
            return false; // More members, or a table of something else; a final empty block is allowed for.
        }

        var bytes = new byte[GzipLayout.TrailerSize];
        await _file.ReadAsync(_file.Length - bytes.Length, bytes, cancellationToken).ConfigureAwait(false);
        new SpanReader(bytes).TryRead(out GzipTrailer trailer);
        long length = trailer.Length.Value;
        int count = chunks.StoredLengths.Length;
        if (length <= (count - 1L) * chunks.ChunkLength || length > (long)count * chunks.ChunkLength)
        {
            return false;
        }

        long at = header.Length;
        for (int i = 0; i < count; i++)
        {
            long content = Math.Min(chunks.ChunkLength, length - ((long)i * chunks.ChunkLength));
            _checkpoints.Add(content, at, chunks.StoredLengths[i], default);
            at += chunks.StoredLengths[i];
        }

        return true;
    }
}
