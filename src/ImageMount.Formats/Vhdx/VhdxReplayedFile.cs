using ImageMount.Core.Block;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// A file with its log replayed in memory: shows what the file would hold, and leaves it alone. Written once, by the
/// replay, then only read.
/// </summary>
internal sealed class VhdxReplayedFile(BlockNode file) : BlockDevice
{
    /// <summary>Most changed sectors to keep: 256 MiB.</summary>
    private const int MaxSectors = 1 << 16;

    private const int Sector = VhdxLayout.LogSectorSize;

    private readonly SortedDictionary<long, byte[]> _sectors = [];
    private readonly List<(long Start, long End)> _zeroes = [];
    private long[] _changed = [];
    private long _length = file.Length;

    /// <inheritdoc/>
    public override long Length => _length;

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities =>
        BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Resize;

    /// <inheritdoc/>
    public override BlockLimits Limits => BlockLimits.Default with { OptimalTransfer = file.Limits.OptimalTransfer };

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children { get; } = [new("file", file)];

    /// <summary>Ends the changes; from now on it may be read.</summary>
    public void Freeze() => _changed = [.. _sectors.Keys];

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        int stored = (int)Math.Clamp(file.Length - offset, 0, buffer.Length);
        if (stored > 0)
        {
            await file.ReadAsync(offset, buffer[..stored], cancellationToken).ConfigureAwait(false);
        }

        buffer.Span[stored..].Clear();
        foreach ((long start, long end) in _zeroes)
        {
            long from = Math.Max(start, offset);
            long to = Math.Min(end, offset + buffer.Length);
            if (from < to)
            {
                buffer.Span[(int)(from - offset)..(int)(to - offset)].Clear();
            }
        }

        for (int i = FirstChanged(offset); i < _changed.Length && _changed[i] < offset + buffer.Length; i++)
        {
            long from = Math.Max(_changed[i], offset);
            long to = Math.Min(_changed[i] + Sector, offset + buffer.Length);
            _sectors[_changed[i]].AsSpan((int)(from - _changed[i]), (int)(to - from))
                .CopyTo(buffer.Span[(int)(from - offset)..]);
        }
    }

    /// <summary>Keeps a sector; only for the replay.</summary>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        if (_sectors.Count >= MaxSectors)
        {
            throw BlockException.Limit(
                "the log is too large to be replayed in memory", _sectors.Count + 1L, MaxSectors);
        }

        _sectors[offset] = buffer.ToArray();
        return default;
    }

    /// <summary>Notes a range; only for the replay.</summary>
    public override ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        if (_zeroes.Count >= MaxSectors)
        {
            throw BlockException.Limit("the log is too large to be replayed in memory", _zeroes.Count + 1L, MaxSectors);
        }

        foreach (long changed in _sectors.Keys.Where(at => at >= offset && at < offset + count).ToArray())
        {
            _sectors.Remove(changed);
        }

        _zeroes.Add((offset, offset + count));
        return new(true);
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        _length = Math.Max(_length, newLength);
        return new(true);
    }

    private int FirstChanged(long offset)
    {
        int index = Array.BinarySearch(_changed, offset - Sector + 1);
        return index < 0 ? ~index : index;
    }
}
