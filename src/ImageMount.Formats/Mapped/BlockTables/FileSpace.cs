using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.BlockTables;

/// <summary>
/// Room for new units: free places between old ones, then the end of the file. The file grows in steps, because growing
/// is a system call; what was not needed is cut off on close. Room behind what the file was at the start reads as
/// zeroes; room before that, or given back, may hold anything. A format with a trailer has it rewritten at each new
/// end before the old one is overwritten.
/// </summary>
internal sealed class FileSpace
{
    private const long GrowStep = 16 << 20;

    private readonly BlockNode _node;
    private readonly long _start;
    private readonly int _footprint;
    private readonly long _maxUnits;
    private readonly FreeRuns _free = new(1 << 16);
    private readonly byte[]? _trailer;
    private readonly long _freshFrom;
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _growing = new(1, 1);
    private long _next;
    private long _limit;
    private long _trailerAt = -1;
    private bool _grew;

    /// <summary>Makes the room of a file that was scanned.</summary>
    /// <param name="node">The file.</param>
    /// <param name="start">Place of unit 0.</param>
    /// <param name="footprint">Bytes of a unit.</param>
    /// <param name="next">First unit behind all that is used.</param>
    /// <param name="maxUnits">Units that the table can name, counted from <paramref name="start"/>.</param>
    /// <param name="trailer">What stands at the end of the file, or null.</param>
    /// <param name="hasTrailer">The file ends with a trailer now.</param>
    public FileSpace(
        BlockNode node, long start, int footprint, long next, long maxUnits, byte[]? trailer = null,
        bool hasTrailer = false)
    {
        _node = node;
        _start = start;
        _footprint = footprint;
        _next = next;
        _maxUnits = maxUnits;
        _trailer = trailer;
        _limit = _freshFrom = node.Length;
        if (hasTrailer)
        {
            _trailerAt = _limit = _freshFrom = node.Length - trailer!.Length;
        }
        else if (trailer is not null)
        {
            _limit = 0; // To the first unit that is wanted, or to Restore, an end with a trailer.
        }
    }

    /// <summary>Units from the start to behind the last one that is used.</summary>
    public long Next
    {
        get
        {
            lock (_lock)
            {
                return _next;
            }
        }
    }

    /// <summary>Gives out free places before the end; used while opening.</summary>
    public void AddFree(long unit, long count) => _free.Add(unit, count);

    /// <summary>Takes room for so many neighbouring units, or for fewer. Not fresh: it may hold anything.</summary>
    /// <exception cref="BlockException">NoSpace when the file cannot grow or the table can name no more.</exception>
    public async ValueTask<(long Place, int Units, bool IsFresh)> ReserveAsync(
        int units, CancellationToken cancellationToken)
    {
        if (TryTake(units, out (long Place, int Units, bool IsFresh) room))
        {
            return room;
        }

        await _growing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            while (!TryTake(units, out room))
            {
                long left = _maxUnits - Next;
                if (left <= 0)
                {
                    throw new BlockException(BlockErrorKind.NoSpace, "the image is full: its table can name no more")
                    {
                        Expected = $"at most 0x{_start + (_maxUnits * _footprint):x} bytes",
                    };
                }

                units = (int)Math.Min(units, left);
                await GrowAsync(_start + ((Next + units) * _footprint), GrowStep, cancellationToken)
                    .ConfigureAwait(false);
            }

            return room;
        }
        finally
        {
            _growing.Release();
        }
    }

    /// <summary>Gives room back that no table ever named.</summary>
    public void Return(long place, int units)
    {
        lock (_lock)
        {
            _free.Add((place - _start) / _footprint, units);
        }
    }

    /// <summary>Makes the file end with a trailer again; durable with the next flush.</summary>
    public async ValueTask RestoreTrailerAsync(CancellationToken cancellationToken)
    {
        await _growing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_trailer is not null && _trailerAt < 0)
            {
                await GrowAsync(_start + (Next * _footprint), 0, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            _growing.Release();
        }
    }

    /// <summary>Cuts off what was not needed; nothing is under way any more.</summary>
    public async ValueTask TrimAsync()
    {
        _next = _free.TailStart(_next);
        long end = _start + (_next * _footprint);
        if (!_grew || end + (_trailer?.Length ?? 0) >= _node.Length || end < _freshFrom)
        {
            return;
        }

        if (_trailer is not null)
        {
            await _node.WriteAsync(end, _trailer).ConfigureAwait(false);
            await _node.FlushAsync().ConfigureAwait(false);
        }

        await _node.TryResizeAsync(end + (_trailer?.Length ?? 0)).ConfigureAwait(false);
    }

    private bool TryTake(int units, out (long Place, int Units, bool IsFresh) room)
    {
        lock (_lock)
        {
            if (_free.TryPeek(units, out long first, out long count))
            {
                count = Math.Min(count, units);
                _free.Take(first, count);
                room = (_start + (first * _footprint), (int)count, false);
                return true;
            }

            long place = _start + (_next * _footprint);
            room = (place, units, place >= _freshFrom);
            if (_next + units > _maxUnits || place + ((long)units * _footprint) > _limit)
            {
                return false;
            }

            _next += units;
            return true;
        }
    }

    /// <summary>Grows the file so that units up to <paramref name="end"/> fit; one at a time.</summary>
    private async ValueTask GrowAsync(long end, long step, CancellationToken cancellationToken)
    {
        int trailer = _trailer?.Length ?? 0;
        end = Math.Max(end, (_node.Length + 511) / 512 * 512);
        long most = _start + (_maxUnits * _footprint);
        long length = Math.Max(end, Math.Min(end + step, most)) + trailer; // In sectors.
        if (!await _node.TryResizeAsync(length, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the image's file cannot grow")
            {
                Hint = "Images that grow need a file that can; a device or a fixed window cannot.",
            };
        }

        _grew = true;
        if (_trailer is not null)
        {
            await _node.WriteAsync(length - trailer, _trailer, WriteFlags.None, cancellationToken)
                .ConfigureAwait(false);
            if (_trailerAt >= 0)
            {
                await _node.ZeroAsync(_trailerAt, trailer, ZeroFlags.None, cancellationToken).ConfigureAwait(false);
            }

            _trailerAt = length - trailer;
        }

        lock (_lock)
        {
            _limit = length - trailer;
        }
    }
}
