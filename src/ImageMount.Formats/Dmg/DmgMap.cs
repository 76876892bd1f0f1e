using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.Codecs;

namespace ImageMount.Formats.Dmg;

/// <summary>
/// The runs of all tables in guest order; what lies between them reads as zeroes. All of it is in memory, so a lookup
/// is a search and completes at once.
/// </summary>
internal sealed class DmgMap : IExtentMap
{
    private readonly DmgFork _fork;
    private readonly DmgRun[] _runs;

    /// <summary>Orders the runs and refuses those that contradict each other or lie outside the files.</summary>
    /// <param name="tables">The tables.</param>
    /// <param name="fork">Where runs are stored.</param>
    /// <param name="length">Bytes of the disk; at least as much as the tables need.</param>
    public DmgMap(DmgTables tables, DmgFork fork, long length)
    {
        _fork = fork;
        _runs = tables.Runs.ToArray();
        Length = length;
        Array.Sort(_runs, static (a, b) => a.Start.CompareTo(b.Start));
        for (int i = 0; i < _runs.Length; i++)
        {
            DmgRun run = _runs[i];
            if (i > 0 && run.Start < _runs[i - 1].End)
            {
                throw BlockException.Invalid(
                    "two block runs of the image cover the same sectors", null,
                    $"0x{run.Start:x} is in runs of 0x{_runs[i - 1].Length:x} and 0x{run.Length:x} bytes");
            }

            long stored = run.IsZero ? 0 : run.IsCompressed ? run.StoredLength : run.Length;
            if (stored > fork.Length || run.Offset > fork.Length - stored)
            {
                throw BlockException.Invalid(
                    $"the block run for 0x{run.Start:x} is stored outside the file", null,
                    $"0x{stored:x} bytes at 0x{run.Offset:x} of the data fork", $"inside 0x{fork.Length:x} bytes");
            }
        }
    }

    /// <inheritdoc/>
    public long Length { get; }

    /// <inheritdoc/>
    public BlockNode? Backing => null;

    /// <summary>The runs in guest order.</summary>
    public ReadOnlySpan<DmgRun> Runs => _runs;

    /// <summary>The decoder of a compressed run.</summary>
    public static IUnitDecoder DecoderOf(DmgRunType type) => type switch
    {
        DmgRunType.Adc => AdcDecoder.Instance,
        DmgRunType.Zlib => ZlibDecoder.Instance,
        DmgRunType.Bzip2 => Bzip2Decoder.Instance,
        DmgRunType.Lzfse => LzfseDecoder.Instance,
        _ => XzDecoder.Instance,
    };

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        long end = guestOffset + Math.Min(count, Length - guestOffset);
        int index = Find(guestOffset);
        if (index < 0 || guestOffset >= _runs[index].End || _runs[index].IsZero)
        {
            return new(MappedRun.Zero(EndOfZeroes(index, end) - guestOffset));
        }

        DmgRun run = _runs[index];
        long length = Math.Min(end, run.End) - guestOffset;
        if (run.IsCompressed)
        {
            (BlockNode unitNode, long unitOffset) = _fork.LocateUnit(run.Offset, run.StoredLength);
            return new(MappedRun.Compressed(length, new CompressedUnit(
                unitNode, unitOffset, run.StoredLength, run.Start, (int)run.Length, DecoderOf(run.Type))));
        }

        (BlockNode node, long hostOffset, long available) = _fork.Locate(run.Offset + guestOffset - run.Start);
        return new(MappedRun.Data(Math.Min(length, available), node, hostOffset));
    }

    /// <summary>Index of the last run that begins at or before an offset, or -1.</summary>
    private int Find(long offset)
    {
        int low = -1;
        for (int high = _runs.Length - 1; low < high;)
        {
            int middle = low + (high - low + 1) / 2;
            (low, high) = _runs[middle].Start <= offset ? (middle, high) : (low, middle - 1);
        }

        return low;
    }

    /// <summary>End of the zeroes that begin in or after a run.</summary>
    private long EndOfZeroes(int index, long end)
    {
        for (index++; index < _runs.Length && _runs[index].Start < end; index++)
        {
            if (!_runs[index].IsZero)
            {
                return _runs[index].Start;
            }
        }

        return end;
    }
}
