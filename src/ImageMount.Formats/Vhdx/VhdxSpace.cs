using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Room for blocks, in units of 1 MiB: first what is free inside the file, then at its end, which grows in steps. What
/// was not needed is cut off on close. Free room may hold anything and is zeroed before it is given out, where the file
/// can do that without writing.
/// </summary>
internal sealed class VhdxSpace
{
    private const int MaxRuns = 1 << 16;
    private const long MinGrowth = 4 << 20;
    private const long MaxGrowth = 256 << 20;

    private readonly BlockNode _file;
    private readonly long _keptLength;
    private readonly Lock _lock = new();
    private readonly FreeRuns _free = new(MaxRuns);
    private readonly SemaphoreSlim _growing = new(1, 1);
    private readonly bool _zeroes;
    private long _next;
    private long _end;

    /// <summary>Starts from what is in use.</summary>
    /// <param name="file">The file.</param>
    /// <param name="usage">What is in use.</param>
    /// <param name="keepsLength">The file must not get shorter than it is (a fixed disk).</param>
    public VhdxSpace(BlockNode file, VhdxUsage usage, bool keepsLength)
    {
        _file = file;
        _keptLength = keepsLength ? file.Length : 0;
        _zeroes = (file.Capabilities & BlockCapabilities.Zero) != 0;
        _next = Math.Max(usage.Units * VhdxLayout.MiB, usage.NominalEnd);
        _end = file.Length;
        for (long unit = 0; unit < usage.Units;)
        {
            long first = unit;
            while (unit < usage.Units && !usage.IsUsed(unit))
            {
                unit++;
            }

            if (unit > first)
            {
                _free.Add(first, unit - first);
            }

            unit++;
        }
    }

    /// <summary>First byte behind everything that was given out; a multiple of 1 MiB.</summary>
    public long End
    {
        get
        {
            lock (_lock)
            {
                return _free.TailStart(_next >> 20) << 20;
            }
        }
    }

    /// <summary>Takes room, a multiple of 1 MiB. It reads as zeroes, or the result says that it may not.</summary>
    /// <exception cref="BlockException">NoSpace when the file cannot grow.</exception>
    public async ValueTask<(long Host, bool ReadsZero)> ReserveAsync(long bytes, CancellationToken cancellationToken)
    {
        if (TryTakeFree(bytes, out long host))
        {
            try
            {
                return (host, await TryClearAsync(host, bytes, cancellationToken).ConfigureAwait(false));
            }
            catch
            {
                Return(host, bytes);
                throw;
            }
        }

        if (TryTakeEnd(bytes, out host))
        {
            return (host, true);
        }

        await _growing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            while (!TryTakeEnd(bytes, out host))
            {
                await GrowAsync(bytes, cancellationToken).ConfigureAwait(false);
            }

            return (host, true);
        }
        finally
        {
            _growing.Release();
        }
    }

    /// <summary>Makes a place read as zeroes if that is cheap; false when it was not.</summary>
    public async ValueTask<bool> TryClearAsync(long host, long bytes, CancellationToken cancellationToken)
    {
        if (!_zeroes)
        {
            return false;
        }

        await _file.ZeroAsync(host, bytes, ZeroFlags.MayUnmap, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <summary>Gives room back: nothing durable names it, and no request uses it any more.</summary>
    public void Return(long host, long bytes)
    {
        lock (_lock)
        {
            if (host + bytes <= _next)
            {
                _free.Add(host >> 20, bytes >> 20); // Too many runs: not kept, and found again by the next open.
            }
        }
    }

    /// <summary>Makes the file long enough for a block that has its place already, and ends behind it.</summary>
    public async ValueTask GrowToAsync(long end, CancellationToken cancellationToken)
    {
        await _growing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_file.Length < end && !await TryGrowAsync(end, cancellationToken).ConfigureAwait(false))
            {
                throw CannotGrow(end);
            }

            lock (_lock)
            {
                _end = _file.Length;
            }
        }
        finally
        {
            _growing.Release();
        }
    }

    /// <summary>Cuts the free end of the file off; nothing is under way any more.</summary>
    public async ValueTask TrimAsync()
    {
        long length = Math.Max(_keptLength, End);
        if (length < _file.Length && (_file.Capabilities & BlockCapabilities.Resize) != 0)
        {
            await _file.TryResizeAsync(length).ConfigureAwait(false);
            await _file.FlushAsync().ConfigureAwait(false);
        }
    }

    private bool TryTakeFree(long bytes, out long host)
    {
        long units = bytes >> 20;
        lock (_lock)
        {
            bool found = _free.TryPeek(units, out long first, out long count) && count >= units
                && (first + units) << 20 <= _end;
            host = first << 20;
            if (found)
            {
                _free.Take(first, units);
            }

            return found;
        }
    }

    private bool TryTakeEnd(long bytes, out long host)
    {
        lock (_lock)
        {
            host = _next;
            if (bytes > _end - _next)
            {
                return false;
            }

            _next += bytes;
            return true;
        }
    }

    private async ValueTask GrowAsync(long bytes, CancellationToken cancellationToken)
    {
        long wanted = _next + bytes;
        if (wanted > VhdxLayout.MaxWrittenFile)
        {
            throw BlockException.Limit("the file would become too large", wanted, VhdxLayout.MaxWrittenFile);
        }

        long step = Math.Clamp(_file.Length / 8, MinGrowth, MaxGrowth) & -(long)VhdxLayout.MiB;
        if (!await TryGrowAsync(wanted + step, cancellationToken).ConfigureAwait(false)
            && !await TryGrowAsync(wanted, cancellationToken).ConfigureAwait(false))
        {
            throw CannotGrow(wanted);
        }

        lock (_lock)
        {
            _end = _file.Length;
        }
    }

    private BlockException CannotGrow(long wanted) => new(BlockErrorKind.NoSpace, "the image's file cannot grow")
    {
        Found = $"0x{_file.Length:x}",
        Expected = $"at least 0x{wanted:x}",
    };

    /// <summary>A host that is full may still have room for less, so only that refusal is swallowed.</summary>
    private async ValueTask<bool> TryGrowAsync(long length, CancellationToken cancellationToken)
    {
        try
        {
            return await _file.TryResizeAsync(length, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind is BlockErrorKind.NoSpace or BlockErrorKind.LimitExceeded)
        {
            return false;
        }
    }
}
