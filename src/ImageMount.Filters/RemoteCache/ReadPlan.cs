using ImageMount.Core.Memory;

namespace ImageMount.Filters.RemoteCache;

/// <summary>A part of a request that comes from one place.</summary>
/// <param name="Offset">Begin on the disk.</param>
/// <param name="Length">Bytes.</param>
/// <param name="IsLocal">From the file of the cache; else it is missing.</param>
internal readonly record struct ReadRun(long Offset, int Length, bool IsLocal);

/// <summary>What of a request is in the file, by what its marks say now; and reading that, verified.</summary>
internal sealed class ReadPlan
{
    private const int Unit = CacheLayout.UnitSize;
    private readonly CacheFile _file;
    private readonly UnitSet _ready;
    private readonly long _first;
    private readonly uint[] _marks;

    /// <summary>Looks.</summary>
    public ReadPlan(CacheFile file, UnitSet ready, long offset, int count)
    {
        _file = file;
        _ready = ready;
        _first = offset / Unit;
        _marks = new uint[((offset + count - 1) / Unit) - _first + 1];
        file.ReadMarks(_first, _marks);
        long end = offset + count;
        while (offset < end)
        {
            bool isLocal = IsLocal(offset / Unit);
            long stop = offset;
            while (stop < end && IsLocal(stop / Unit) == isLocal)
            {
                stop = Math.Min(end, ((stop / Unit) + 1) * Unit);
            }

            Runs.Add(new ReadRun(offset, (int)(stop - offset), isLocal));
            offset = stop;
        }
    }

    /// <summary>The request in parts.</summary>
    public List<ReadRun> Runs { get; } = [];

    /// <summary>
    /// Reads a part that is in the file, once: what has to be verified is verified where it was read to. Returns what
    /// turned out to be wrong, and is to be fetched.
    /// </summary>
    public List<ReadRun> ReadLocal(ReadRun run, Span<byte> target)
    {
        var wrong = new List<ReadRun>();
        if (!_file.TryRead(run.Offset, target))
        {
            wrong.Add(run with { IsLocal = false });
            return wrong;
        }

        long end = run.Offset + run.Length;
        for (long unit = run.Offset / Unit; unit * Unit < end; unit++)
        {
            if (_ready.Contains(unit))
            {
                continue;
            }

            long from = Math.Max(run.Offset, unit * Unit);
            int count = (int)(Math.Min(end, (unit + 1) * Unit) - from);
            Span<byte> part = target.Slice((int)(from - run.Offset), count);
            bool isWhole = count == _file.Layout.LengthOf(unit);
            if (isWhole ? UnitChecksum.Of(part) == MarkOf(unit) : VerifyEdge(unit, from, part))
            {
                _ready.Add(unit);
            }
            else
            {
                wrong.Add(new ReadRun(from, count, false));
            }
        }

        return wrong;
    }

    private bool IsLocal(long unit) => MarkOf(unit) != 0 || _ready.Contains(unit);

    private uint MarkOf(long unit) => _marks[unit - _first];

    /// <summary>
    /// A unit of which only a part is wanted is read as a whole, and the part taken from what was verified.
    /// </summary>
    private bool VerifyEdge(long unit, long from, Span<byte> part)
    {
        using BufferLease lease = BufferPool.Shared.Rent(_file.Layout.LengthOf(unit));
        if (!_file.TryRead(unit * Unit, lease.Span) || UnitChecksum.Of(lease.Span) != MarkOf(unit))
        {
            return false;
        }

        lease.Span.Slice((int)(from - (unit * Unit)), part.Length).CopyTo(part);
        return true;
    }
}
