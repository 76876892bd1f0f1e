using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Parallels;

/// <summary>A part of the disk in one layer: an expanding image, or a plain file.</summary>
/// <param name="Start">First byte in the disk.</param>
/// <param name="End">First byte after it.</param>
/// <param name="Image">The image, or null for a plain file.</param>
/// <param name="File">The file.</param>
internal sealed record ParallelsPart(long Start, long End, ParallelsImage? Image, BlockNode File);

/// <summary>A layer of a bundle as a map: its parts in a row, over the layer below.</summary>
internal sealed class ParallelsLayerMap : IWritableExtentMap
{
    private readonly ParallelsPart[] _parts;
    private readonly BlockTableMap?[] _maps;

    /// <summary>Makes the map.</summary>
    /// <param name="parts">Parts in the order of the disk, without gaps.</param>
    /// <param name="backing">The layer below, or null.</param>
    public ParallelsLayerMap(ParallelsPart[] parts, BlockNode? backing)
    {
        _parts = parts;
        Backing = backing;
        _maps = [.. parts.Select(part => part.Image?.MakeMap(backing))];
    }

    /// <inheritdoc/>
    public long Length => _parts[^1].End;

    /// <inheritdoc/>
    public BlockNode? Backing { get; }

    /// <summary>The parts.</summary>
    public IReadOnlyList<ParallelsPart> Parts => _parts;

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        int index = Find(guestOffset);
        ParallelsPart part = _parts[index];
        count = Math.Min(count, part.End - guestOffset);
        long inside = guestOffset - part.Start;
        return _maps[index] is { } map
            ? map.LookupAsync(inside, count, cancellationToken)
            : new(MappedRun.Data(count, part.File, inside));
    }

    /// <inheritdoc/>
    public ValueTask<WriteTarget> PrepareWriteAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        int index = Find(guestOffset);
        ParallelsPart part = _parts[index];
        count = Math.Min(count, part.End - guestOffset);
        long inside = guestOffset - part.Start;
        if (_maps[index] is not { } map)
        {
            return new(new WriteTarget(part.File, inside, count, null));
        }

        ValueTask<WriteTarget> prepare = map.PrepareWriteAsync(inside, count, cancellationToken);
        return prepare.IsCompletedSuccessfully && prepare.Result is { Lease: null } target
            ? new(target)
            : ShiftAsync(prepare, part);
    }

    /// <inheritdoc/>
    public async ValueTask<long> ZeroUnitsAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        int index = Find(guestOffset);
        ParallelsPart part = _parts[index];
        count = Math.Min(count, part.End - guestOffset);
        long inside = guestOffset - part.Start;
        if (_maps[index] is { } map)
        {
            return await map.ZeroUnitsAsync(inside, count, mayUnmap, cancellationToken).ConfigureAwait(false);
        }

        await part.File.ZeroAsync(inside, count, mayUnmap ? ZeroFlags.MayUnmap : ZeroFlags.None, cancellationToken)
            .ConfigureAwait(false);
        return count;
    }

    /// <inheritdoc/>
    public async ValueTask DiscardUnitsAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        while (count > 0)
        {
            int index = Find(guestOffset);
            ParallelsPart part = _parts[index];
            long length = Math.Min(count, part.End - guestOffset);
            long inside = guestOffset - part.Start;
            await (_maps[index] is { } map
                ? map.DiscardUnitsAsync(inside, length, cancellationToken)
                : part.File.DiscardAsync(inside, length, cancellationToken)).ConfigureAwait(false);
            guestOffset += length;
            count -= length;
        }
    }

    /// <inheritdoc/>
    public async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        for (int i = 0; i < _parts.Length; i++)
        {
            await (_maps[i]?.FlushAsync(cancellationToken) ?? _parts[i].File.FlushAsync(cancellationToken))
                .ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) => new(false);

    /// <summary>Closes the images; all of them, also when one fails.</summary>
    public async ValueTask CloseAsync()
    {
        Exception? first = null;
        foreach (BlockTableMap? map in _maps)
        {
            try
            {
                await (map?.CloseAsync() ?? default).ConfigureAwait(false);
            }
            catch (Exception e)
            {
                first ??= e; // The others are still to be marked clean.
            }
        }

        if (first is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(first);
        }
    }

    private static async ValueTask<WriteTarget> ShiftAsync(ValueTask<WriteTarget> prepare, ParallelsPart part)
    {
        WriteTarget target = await prepare.ConfigureAwait(false);
        return target.Lease is null ? target : target with { Lease = new PartLease(target.Lease, part) };
    }

    private int Find(long guestOffset)
    {
        int low = 0;
        int high = _parts.Length - 1;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            (low, high) = guestOffset < _parts[middle].End ? (low, middle) : (middle + 1, high);
        }

        return low;
    }

    /// <summary>A lease of one image, seen from the disk.</summary>
    private sealed class PartLease : WriteLease
    {
        private readonly WriteLease _inner;

        public PartLease(WriteLease inner, ParallelsPart part)
        {
            _inner = inner;
            GuestStart = part.Start + inner.GuestStart;
            GuestEnd = Math.Min(part.Start + inner.GuestEnd, part.End);
            HostStart = inner.HostStart;
            HostReadsZero = inner.HostReadsZero;
        }

        public override ValueTask CommitAsync(CancellationToken cancellationToken) =>
            _inner.CommitAsync(cancellationToken);

        public override void Rollback() => _inner.Rollback();
    }
}

/// <summary>A layer below the current one, or a snapshot: read-only.</summary>
internal sealed class ParallelsLayerDevice(ParallelsLayerMap map) : MappedDevice
{
    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => BlockCapabilities.Map;

    /// <inheritdoc/>
    protected override IExtentMap Map => map;
}
