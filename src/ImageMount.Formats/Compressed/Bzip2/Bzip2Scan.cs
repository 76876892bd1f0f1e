using System.Buffers.Binary;
using System.Numerics;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Bzip2;

/// <summary>
/// Finds the blocks of a bzip2 file. Nothing in the file says where they are or how long their content is: first the
/// magics are looked for at every bit, then each block is decoded once, several at a time, to count. A magic that is
/// payload by accident does no harm: the block before it does not decode up to there, and is tried up to the next one.
/// </summary>
internal sealed class Bzip2Scan(BlockNode file, Bzip2Options options, IProgress<OpenProgress>? progress)
{
    /// <summary>Accidental magics in one block: one is a matter of once in some hundred terabytes.</summary>
    private const int MaxAccidents = 3;

    private readonly PackedIndex _index = new(options.IndexMemory);
    private readonly List<Bzip2Place> _places = [];
    private List<Bzip2Mark> _marks = [];
    private int _nextMark;
    private long _reported;

    /// <summary>Does both passes.</summary>
    public async ValueTask<Bzip2Content> RunAsync(CancellationToken cancellationToken)
    {
        _marks = await Bzip2MagicSearch.RunAsync(file, options.IndexMemory, progress, cancellationToken)
            .ConfigureAwait(false);
        int streams = 0;
        long at = 0;
        while (await ReadStreamHeaderAsync(at, cancellationToken).ConfigureAwait(false) is { } level)
        {
            at = await ReadStreamAsync(at, level, cancellationToken).ConfigureAwait(false);
            streams++;
        }

        return new Bzip2Content(file, _index, _places, streams);
    }

    /// <summary>
    /// The level of the stream that begins here; null at the end of the file, or of all that is not zero.
    /// </summary>
    private async ValueTask<byte?> ReadStreamHeaderAsync(long at, CancellationToken cancellationToken)
    {
        using var reader = new ForwardReader(file);
        reader.Skip(at);
        if (at > 0 && !await reader.FillAsync(Bzip2Layout.StreamHeaderSize, cancellationToken).ConfigureAwait(false))
        {
            return null;
        }

        await reader.FillAsync(Bzip2Layout.StreamHeaderSize, cancellationToken).ConfigureAwait(false);
        if (Bzip2Layout.IsStreamHeader(reader.Bytes))
        {
            return reader.Bytes[3];
        }

        while (at > 0 && !reader.Bytes.ContainsAnyExcept((byte)0))
        {
            reader.Skip(reader.Bytes.Length);
            if (!await reader.FillAsync(1, cancellationToken).ConfigureAwait(false))
            {
                return null; // Padding, as tapes and block devices have it.
            }
        }

        throw BlockException.Invalid(
            at == 0 ? "there is no bzip2 header" : "what follows a bzip2 stream is no bzip2 stream", reader.Position);
    }

    private async ValueTask<long> ReadStreamAsync(long at, byte level, CancellationToken cancellationToken)
    {
        long bit = (at + Bzip2Layout.StreamHeaderSize) * 8;
        uint streamCrc = 0;
        while (true)
        {
            while (_nextMark < _marks.Count && _marks[_nextMark].Bit < bit)
            {
                _nextMark++;
            }

            if (_nextMark == _marks.Count || _marks[_nextMark].Bit != bit)
            {
                throw BlockException.Invalid("there is no bzip2 block where one must begin", bit / 8);
            }

            if (_marks[_nextMark].IsEnd)
            {
                uint crc = await ReadCrcAsync(bit, cancellationToken).ConfigureAwait(false);
                return crc == streamCrc ? (bit + Bzip2Layout.MagicBits + Bzip2Layout.ChecksumBits + 7) / 8
                    : throw BlockException.Invalid(
                        "the checksum of a bzip2 stream is wrong", bit / 8, $"0x{crc:x8}", $"0x{streamCrc:x8}");
            }

            foreach (Measured block in await MeasureNextAsync(level, cancellationToken).ConfigureAwait(false))
            {
                streamCrc = BitOperations.RotateLeft(streamCrc, 1) ^ block.Crc;
                bit = block.Place.StartBit + block.Place.BitCount;
                Add(block);
            }

            if (progress is not null && (bit / 8) - _reported > 4 << 20)
            {
                _reported = bit / 8;
                progress.Report(new OpenProgress(file.Name, "measuring", _reported, file.Length));
            }
        }
    }

    private void Add(in Measured block)
    {
        if (block.Length == 0)
        {
            return;
        }

        if (!block.IsZero)
        {
            _index.Add(block.Length, block.Place.HostOffset, block.Place.StoredLength, 16);
            _places.Add(block.Place);
        }
        else if (_index.Count > 0 && _index[_index.Count - 1] is { IsZero: true } last
            && block.Length <= long.MaxValue - last.GuestEnd)
        {
            _index.ReplaceLast(last with { Length = last.Length + block.Length });
        }
        else
        {
            _index.Add(block.Length, block.Place.HostOffset, 0, 16);
            _places.Add(block.Place);
        }

        _index.CheckSize();
    }

    /// <summary>
    /// Measures the blocks from the next mark on, several at a time: those that end at the very next mark, up to the
    /// first that does not; at least one.
    /// </summary>
    private async ValueTask<List<Measured>> MeasureNextAsync(byte level, CancellationToken cancellationToken)
    {
        int most = Environment.ProcessorCount * 2;
        var tasks = new List<Task<Measured?>>();
        for (int i = _nextMark; tasks.Count < most && i + 1 < _marks.Count && !_marks[i].IsEnd; i++)
        {
            Bzip2Mark start = _marks[i];
            Bzip2Mark end = _marks[i + 1];
            tasks.Add(Task.Run(() => MeasureAsync(start, end, level, cancellationToken).AsTask(), cancellationToken));
        }

        Measured?[] results = await Task.WhenAll(tasks).ConfigureAwait(false);
        var blocks = new List<Measured>();
        foreach (Measured? result in results)
        {
            if (result is not { } measured)
            {
                break;
            }

            blocks.Add(measured);
        }

        if (blocks.Count == 0)
        {
            blocks.Add(await MeasureFurtherAsync(level, cancellationToken).ConfigureAwait(false));
        }

        return blocks;
    }

    private async ValueTask<Measured> MeasureFurtherAsync(byte level, CancellationToken cancellationToken)
    {
        Bzip2Mark start = _marks[_nextMark];
        for (int i = _nextMark + 2; i <= _nextMark + 1 + MaxAccidents && i < _marks.Count; i++)
        {
            if (await MeasureAsync(start, _marks[i], level, cancellationToken).ConfigureAwait(false) is { } measured)
            {
                return measured;
            }
        }

        throw BlockException.Invalid(
            _nextMark + 1 == _marks.Count ? "the bzip2 file ends in the middle of a block" : "a bzip2 block is damaged",
            start.Bit / 8);
    }

    /// <summary>Decodes what lies between two marks; null when that is no block.</summary>
    private async ValueTask<Measured?> MeasureAsync(
        Bzip2Mark start, Bzip2Mark end, byte level, CancellationToken cancellationToken)
    {
        long bits = end.Bit - start.Bit;
        if (bits > Bzip2Layout.MaxStoredBlock * 8L || bits < Bzip2Layout.MagicBits + Bzip2Layout.ChecksumBits)
        {
            return null;
        }

        var place = new Bzip2Place(start.Bit, (int)bits, level);
        using BufferLease stored = BufferPool.Shared.Rent(place.StoredLength);
        await file.ReadAsync(place.HostOffset, stored.Memory, cancellationToken).ConfigureAwait(false);
        using BufferLease output = BufferPool.Shared.Rent(256 << 10);
        using var block = new Bzip2Block(place);
        uint crc = CrcAt(stored.Span, (int)(start.Bit % 8));
        long length = 0;
        bool allZero = true;
        try
        {
            ReadOnlySpan<byte> rest = stored.Span;
            while (true)
            {
                cancellationToken.ThrowIfCancellationRequested();
                bool ended = block.Step(rest, output.Span, out int taken, out int given);
                rest = rest[taken..];
                length += given;
                allZero = allZero && !output.Span[..given].ContainsAnyExcept((byte)0);
                if (ended)
                {
                    return new Measured(place, length, allZero, crc);
                }

                if (taken == 0 && given == 0)
                {
                    return null;
                }
            }
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.InvalidData)
        {
            return null; // Perhaps it goes on behind an accidental magic; whoever asked decides.
        }
    }

    private async ValueTask<uint> ReadCrcAsync(long markBit, CancellationToken cancellationToken)
    {
        var bytes = new byte[11];
        long at = markBit / 8;
        int count = (int)Math.Min(bytes.Length, file.Length - at);
        if (((markBit + Bzip2Layout.MagicBits + Bzip2Layout.ChecksumBits + 7) / 8) > file.Length)
        {
            throw BlockException.Invalid("the bzip2 file ends before the checksum of its stream", at);
        }

        await file.ReadAsync(at, bytes.AsMemory(0, count), cancellationToken).ConfigureAwait(false);
        return CrcAt(bytes, (int)(markBit % 8));
    }

    /// <summary>The 32 bits after a magic that begins at a bit of the first byte.</summary>
    private static uint CrcAt(ReadOnlySpan<byte> bytes, int shift)
    {
        Span<byte> padded = stackalloc byte[8];
        ReadOnlySpan<byte> from = bytes[(Bzip2Layout.MagicBits / 8)..];
        from[..Math.Min(from.Length, 8)].CopyTo(padded);
        return (uint)(BinaryPrimitives.ReadUInt64BigEndian(padded) >> (Bzip2Layout.ChecksumBits - shift));
    }

    /// <summary>A block that decodes.</summary>
    private readonly record struct Measured(Bzip2Place Place, long Length, bool IsZero, uint Crc);
}
