using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vpc;

/// <summary>
/// The flat table refined by the sector bitmaps. A differencing disk reads a sector whose bit is clear from its parent,
/// also inside a stored block. In a dynamic disk the bits say nothing that the bytes do not (what was never written is
/// zeroes, and some programs do not set the bits at all), so reading ignores them, as QEMU and libvhdi do; writing sets
/// them in both, after the payload.
/// </summary>
internal sealed class VpcMap : IWritableExtentMap
{
    private readonly BlockTableMap _blocks;
    private readonly BlockTableLayout _layout;
    private readonly VpcBitmaps _bitmaps;
    private readonly bool _isDifferencing;
    private readonly LeasedRanges _leases = new();
    private readonly ulong[] _full;

    /// <summary>Makes the map.</summary>
    /// <param name="blocks">The table.</param>
    /// <param name="bitmaps">The bitmaps.</param>
    /// <param name="isDifferencing">Clear bits mean the parent.</param>
    public VpcMap(BlockTableMap blocks, VpcBitmaps bitmaps, bool isDifferencing)
    {
        _blocks = blocks;
        _layout = blocks.Table.Layout;
        _bitmaps = bitmaps;
        _isDifferencing = isDifferencing;
        _full = new ulong[((_layout.Units + 63) / 64) + 1];
    }

    /// <inheritdoc/>
    public long Length => _blocks.Length;

    /// <inheritdoc/>
    public BlockNode? Backing => _blocks.Backing;

    /// <summary>The table.</summary>
    public BlockTableMap Blocks => _blocks;

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        ValueTask<MappedRun> lookup = _blocks.LookupAsync(guestOffset, count, cancellationToken);
        if (!_isDifferencing)
        {
            return lookup;
        }

        if (!lookup.IsCompletedSuccessfully)
        {
            return RefineAsync(lookup, guestOffset);
        }

        MappedRun run = lookup.Result;
        return run.Kind != RunKind.Data ? new(run) : TryRefine(run, guestOffset, out MappedRun refined)
            ? new(refined)
            : RefineAsync(new ValueTask<MappedRun>(run), guestOffset);
    }

    /// <inheritdoc/>
    public ValueTask<WriteTarget> PrepareWriteAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        ValueTask<WriteTarget> prepare = _blocks.PrepareWriteAsync(guestOffset, count, cancellationToken);
        return prepare.IsCompletedSuccessfully && prepare.Result is { Lease: null } target && IsFull(guestOffset)
            ? new(target)
            : PrepareSlowlyAsync(prepare, guestOffset, count, cancellationToken);
    }

    /// <inheritdoc/>
    public async ValueTask<long> ZeroUnitsAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        MappedRun run = await LookupAsync(guestOffset, count, cancellationToken).ConfigureAwait(false);
        if (run.Kind == RunKind.Parent)
        {
            return Backing is null ? run.Length : 0; // The parent's bytes are hidden by writing only.
        }

        await _blocks.BeginAsync(cancellationToken).ConfigureAwait(false);
        await _layout.Node.ZeroAsync(
            run.HostOffset, run.Length, mayUnmap ? ZeroFlags.MayUnmap : ZeroFlags.None, cancellationToken)
            .ConfigureAwait(false);
        return run.Length;
    }

    /// <inheritdoc/>
    public async ValueTask DiscardUnitsAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        while (count > 0)
        {
            MappedRun run = await LookupAsync(guestOffset, count, cancellationToken).ConfigureAwait(false);
            if (run.Kind == RunKind.Data)
            {
                await _blocks.BeginAsync(cancellationToken).ConfigureAwait(false);
                await _layout.Node.DiscardAsync(run.HostOffset, run.Length, cancellationToken).ConfigureAwait(false);
            }

            guestOffset += run.Length;
            count -= run.Length;
        }
    }

    /// <inheritdoc/>
    public ValueTask FlushAsync(CancellationToken cancellationToken) => _blocks.FlushAsync(cancellationToken);

    /// <inheritdoc/>
    public ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) => new(false);

    private bool TryRefine(in MappedRun run, long guestOffset, out MappedRun refined)
    {
        (long bitmap, int first, int most) = Place(run, guestOffset);
        bool known = _bitmaps.TryRun(bitmap, first, most, out bool isSet, out int sectors);
        refined = known ? Refined(run, guestOffset, isSet, sectors) : default;
        return known;
    }

    private async ValueTask<MappedRun> RefineAsync(ValueTask<MappedRun> lookup, long guestOffset)
    {
        MappedRun run = await lookup.ConfigureAwait(false);
        if (run.Kind != RunKind.Data)
        {
            return run;
        }

        (long bitmap, int first, int most) = Place(run, guestOffset);
        (bool isSet, int sectors) = await _bitmaps.RunAsync(bitmap, first, most).ConfigureAwait(false);
        return Refined(run, guestOffset, isSet, sectors);
    }

    private MappedRun Refined(in MappedRun run, long guestOffset, bool isSet, int sectors)
    {
        long end = ((guestOffset / VpcLayout.SectorSize) + sectors) * VpcLayout.SectorSize;
        long length = Math.Min(run.Length, end - guestOffset);
        return isSet ? run.Clip(length) : MappedRun.Parent(length);
    }

    /// <summary>Where the bitmap of a run's block is, the run's first sector in it, and its sectors.</summary>
    private (long Bitmap, int First, int Most) Place(in MappedRun run, long guestOffset)
    {
        int inUnit = (int)(guestOffset % _layout.UnitSize);
        int first = inUnit / VpcLayout.SectorSize;
        int end = (int)((inUnit + run.Length + VpcLayout.SectorSize - 1) / VpcLayout.SectorSize);
        return (run.HostOffset - inUnit - _layout.LeadSize, first, end - first);
    }

    private async ValueTask<WriteTarget> PrepareSlowlyAsync(
        ValueTask<WriteTarget> prepare, long guestOffset, long count, CancellationToken cancellationToken)
    {
        WriteTarget target = await prepare.ConfigureAwait(false);
        if (target.Lease is not null)
        {
            return target; // A new block: its bitmap is written when it is committed.
        }

        while (true)
        {
            MappedRun run = MappedRun.Data(target.Length, target.Node, target.HostOffset);
            (long bitmap, int first, int most) = Place(run, guestOffset);
            int all = _layout.UnitSize / VpcLayout.SectorSize;
            (bool isSet, int sectors) = await _bitmaps.RunAsync(bitmap, 0, all).ConfigureAwait(false);
            if (isSet && sectors == all)
            {
                MarkFull(guestOffset);
                return target;
            }

            (isSet, sectors) = await _bitmaps.RunAsync(bitmap, first, most).ConfigureAwait(false);
            MappedRun part = Refined(run, guestOffset, isSet: true, sectors);
            if (isSet)
            {
                return target with { Length = part.Length };
            }

            if (_leases.TryEnter(
                guestOffset, guestOffset + part.Length, out LeasedRanges.Range range, out Task wait))
            {
                // Whether the bits were set meanwhile does not matter: the write goes to the same place.
                return target with
                {
                    Length = part.Length,
                    Lease = new SectorLease(this, range, target.HostOffset, bitmap),
                };
            }

            await wait.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask CommitAsync(SectorLease lease, CancellationToken cancellationToken)
    {
        try
        {
            int first = (int)(lease.GuestStart % _layout.UnitSize / VpcLayout.SectorSize);
            int count = (int)((lease.GuestEnd - lease.GuestStart + VpcLayout.SectorSize - 1) / VpcLayout.SectorSize);
            await _bitmaps.SetAsync(lease.Bitmap, first, count).ConfigureAwait(false);
        }
        finally
        {
            _leases.Exit(lease.Range);
        }

        await _blocks.WriteBackSomeAsync(_bitmaps.IsCrowded, cancellationToken).ConfigureAwait(false);
    }

    private bool IsFull(long guestOffset)
    {
        long unit = _blocks.Table.UnitOf(guestOffset);
        return (Volatile.Read(ref _full[unit / 64]) >> (int)(unit % 64) & 1) != 0;
    }

    /// <summary>Bits are never cleared, so a block that is full stays full.</summary>
    private void MarkFull(long guestOffset)
    {
        long unit = _blocks.Table.UnitOf(guestOffset);
        Interlocked.Or(ref _full[unit / 64], 1UL << (int)(unit % 64));
    }

    /// <summary>Sectors of a stored block that are written for the first time.</summary>
    private sealed class SectorLease : WriteLease
    {
        private readonly VpcMap _map;

        public SectorLease(VpcMap map, LeasedRanges.Range range, long host, long bitmap)
        {
            _map = map;
            Range = range;
            Bitmap = bitmap;
            GuestStart = range.Start;
            GuestEnd = range.End;
            HostStart = host;
        }

        public LeasedRanges.Range Range { get; }

        public long Bitmap { get; }

        public override ValueTask CommitAsync(CancellationToken cancellationToken) =>
            _map.CommitAsync(this, cancellationToken);

        public override void Rollback() => _map._leases.Exit(Range);
    }
}
