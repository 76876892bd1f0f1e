using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.BlockTables;

/// <summary>
/// The disk behind a flat table, read and written. Units never move once they are stored, so a stored unit is written
/// in place without a lock; zeroes and discards over it give its space back to the host and keep its place. A new unit
/// is published in the cached table when it is committed, and goes to the file with the next flush: payload and what
/// the format counts, barrier, table (and bitmaps), barrier. A crash between loses only what was not flushed; what it
/// leaves is room that nothing names.
/// </summary>
internal sealed class BlockTableMap : IWritableExtentMap
{
    /// <summary>Changed pieces of the table that wait for a flush; more are written by whoever commits.</summary>
    private const int MaxDirtyLeaves = 256;

    /// <summary>New units given out at a time, bytes.</summary>
    private const int MaxLease = 8 << 20;

    private readonly BlockTable _table;
    private readonly BlockTableLayout _layout;
    private readonly BlockTableFormat _format;
    private readonly FileSpace? _space;
    private readonly LeasedRanges _leases = new();
    private readonly SemaphoreSlim _flushing = new(1, 1);
    private readonly SemaphoreSlim _beginning = new(1, 1);
    private bool _begun;

    /// <summary>Makes the map.</summary>
    /// <param name="table">The table.</param>
    /// <param name="backing">The parent, or null.</param>
    /// <param name="format">What the format adds.</param>
    /// <param name="space">Room for new units; null for a disk that is only read.</param>
    public BlockTableMap(BlockTable table, BlockNode? backing, BlockTableFormat format, FileSpace? space)
    {
        _table = table;
        _layout = table.Layout;
        _format = format;
        _space = space;
        Backing = backing;
    }

    /// <inheritdoc/>
    public long Length => _layout.Length;

    /// <inheritdoc/>
    public BlockNode? Backing { get; }

    /// <summary>The table.</summary>
    public BlockTable Table => _table;

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        _table.TryLookup(guestOffset, count, out MappedRun run)
            ? new(run)
            : LookupSlowlyAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public ValueTask<WriteTarget> PrepareWriteAsync(
        long guestOffset, long count, CancellationToken cancellationToken) =>
        Volatile.Read(ref _begun) && TryFindInPlace(guestOffset, count, out WriteTarget target)
            ? new(target)
            : PrepareSlowlyAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public async ValueTask<long> ZeroUnitsAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        MappedRun run = await LookupAsync(guestOffset, count, cancellationToken).ConfigureAwait(false);
        if (run.Kind == RunKind.Zero || (run.Kind == RunKind.Parent && Backing is null))
        {
            return run.Length;
        }

        await BeginAsync(cancellationToken).ConfigureAwait(false);
        if (run.Kind == RunKind.Data)
        {
            await _layout.Node.ZeroAsync(
                run.HostOffset, run.Length, mayUnmap ? ZeroFlags.MayUnmap : ZeroFlags.None, cancellationToken)
                .ConfigureAwait(false);
            return run.Length;
        }

        long end = guestOffset + run.Length;
        long lastEnd = end == Length ? RoundUp(end) : end - (end % _layout.UnitSize);
        return _layout.ZeroEntry is null || guestOffset % _layout.UnitSize != 0 || lastEnd <= guestOffset
            ? 0
            : await ZeroEntriesAsync(guestOffset, Math.Min(lastEnd, end), cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask DiscardUnitsAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        while (count > 0)
        {
            MappedRun run = await LookupAsync(guestOffset, count, cancellationToken).ConfigureAwait(false);
            if (run.Kind == RunKind.Data)
            {
                await BeginAsync(cancellationToken).ConfigureAwait(false);
                await _layout.Node.DiscardAsync(run.HostOffset, run.Length, cancellationToken).ConfigureAwait(false);
            }

            guestOffset += run.Length;
            count -= run.Length;
        }
    }

    /// <inheritdoc/>
    public ValueTask FlushAsync(CancellationToken cancellationToken) =>
        Volatile.Read(ref _begun) ? WriteBackAsync(moreThan: -1, cancellationToken) : default;

    /// <inheritdoc/>
    public ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) => new(false);

    /// <summary>Flushes, cuts off room that was not needed, clears marks. Nothing when nothing was changed.</summary>
    public async ValueTask CloseAsync()
    {
        if (!_begun)
        {
            return;
        }

        await WriteBackAsync(moreThan: -1, CancellationToken.None).ConfigureAwait(false);
        await _space!.TrimAsync().ConfigureAwait(false);
        await _format.EndAsync().ConfigureAwait(false);
    }

    /// <summary>Lets the format mark the image as being changed; once, before the first change.</summary>
    public async ValueTask BeginAsync(CancellationToken cancellationToken)
    {
        if (Volatile.Read(ref _begun))
        {
            return;
        }

        await _beginning.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (!_begun)
            {
                await _format.BeginAsync(cancellationToken).ConfigureAwait(false);
                Volatile.Write(ref _begun, true);
            }
        }
        finally
        {
            _beginning.Release();
        }
    }

    /// <summary>Writes back when too much waits; for a format that changes something beside the table.</summary>
    public ValueTask WriteBackSomeAsync(bool isCrowded, CancellationToken cancellationToken) =>
        isCrowded ? WriteBackAsync(-1, cancellationToken)
        : _table.Cache.DirtyCount > MaxDirtyLeaves ? WriteBackAsync(MaxDirtyLeaves, cancellationToken) : default;

    /// <summary>Publishes the units of a lease.</summary>
    private async ValueTask CommitAsync(Lease lease, CancellationToken cancellationToken)
    {
        bool published = false;
        try
        {
            await _format.WriteLeadAsync(
                lease.Place, (int)(lease.GuestStart - lease.UnitStart), (int)(lease.GuestEnd - lease.GuestStart),
                cancellationToken).ConfigureAwait(false);
            uint entry = _layout.EntryOf(lease.Place);
            await ChangeAsync(_table.UnitOf(lease.UnitStart), lease.Units, entry, _layout.Step, cancellationToken)
                .ConfigureAwait(false);
            published = true;
        }
        finally
        {
            if (!published)
            {
                _space!.Return(lease.Place, lease.Units);
            }

            _leases.Exit(lease.Range);
        }

        await WriteBackSomeAsync(isCrowded: false, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Takes the room of a lease back. It may hold half a write: it is not fresh any more.</summary>
    private void Rollback(Lease lease)
    {
        _space!.Return(lease.Place, lease.Units);
        _leases.Exit(lease.Range);
    }

    private async ValueTask<MappedRun> LookupSlowlyAsync(
        long guestOffset, long count, CancellationToken cancellationToken)
    {
        MappedRun run;
        do
        {
            await _table.GetLeafAsync(_table.UnitOf(guestOffset), cancellationToken).ConfigureAwait(false);
        }
        while (!_table.TryLookup(guestOffset, count, out run));
        return run;
    }

    private bool TryFindInPlace(long guestOffset, long count, out WriteTarget target)
    {
        if (!_table.TryLookup(guestOffset, count, out MappedRun run) || run.Kind != RunKind.Data)
        {
            target = default;
            return false;
        }

        target = new WriteTarget(_layout.Node, run.HostOffset, run.Length, null);
        return true;
    }

    private async ValueTask<WriteTarget> PrepareSlowlyAsync(
        long guestOffset, long count, CancellationToken cancellationToken)
    {
        await BeginAsync(cancellationToken).ConfigureAwait(false);
        long unit = _table.UnitOf(guestOffset);
        long unitStart = unit * _layout.UnitSize;
        long wanted = (RoundUp(guestOffset + count) - unitStart) / _layout.UnitSize;
        wanted = _layout.LeadSize > 0 ? 1 : Math.Min(wanted, Math.Max(1, MaxLease / _layout.UnitSize));
        while (true)
        {
            LeafTable leaf = await _table.GetLeafAsync(unit, cancellationToken).ConfigureAwait(false);
            if (TryFindInPlace(guestOffset, count, out WriteTarget target))
            {
                return target;
            }

            int units = CountFree(leaf, unit, wanted);
            if (units == 0)
            {
                continue; // Committed by somebody at this moment, or the piece was evicted.
            }

            long end = unitStart + ((long)units * _layout.UnitSize);
            if (!_leases.TryEnter(unitStart, end, out LeasedRanges.Range range, out Task wait))
            {
                await wait.WaitAsync(cancellationToken).ConfigureAwait(false);
                continue;
            }

            try
            {
                // What was looked at before the range was ours may have been committed, and evicted, since.
                leaf = await _table.GetLeafAsync(unit, cancellationToken).ConfigureAwait(false);
                if (CountFree(leaf, unit, units) == units)
                {
                    target = await LeaseAsync(range, units, guestOffset, count, cancellationToken)
                        .ConfigureAwait(false);
                    range = null!;
                    return target;
                }
            }
            finally
            {
                if (range is not null)
                {
                    _leases.Exit(range);
                }
            }
        }
    }

    /// <summary>Reserves room for the first units of a range that was entered; the lease then owns the range.</summary>
    private async ValueTask<WriteTarget> LeaseAsync(
        LeasedRanges.Range range, int units, long guestOffset, long count, CancellationToken cancellationToken)
    {
        (long place, units, bool isFresh) = await _space!.ReserveAsync(units, cancellationToken).ConfigureAwait(false);
        long unitsEnd = range.Start + ((long)units * _layout.UnitSize);
        long end = Math.Min(guestOffset + count, unitsEnd);
        bool whole = _format.LeasesWholeUnits;
        long host = place + _layout.LeadSize + (guestOffset - range.Start);
        var lease = new Lease(
            this, range, units, place, whole ? range.Start : guestOffset, whole ? unitsEnd : end,
            whole ? place + _layout.LeadSize : host, isFresh);
        return new WriteTarget(_layout.Node, host, end - guestOffset, lease);
    }

    /// <summary>Units in a row that are not stored, within one piece of the table.</summary>
    private int CountFree(LeafTable leaf, long unit, long wanted)
    {
        int first = (int)(unit % BlockTable.LeafEntries);
        int most = (int)Math.Min(wanted, leaf.Entries.Length - first);
        int units = 0;
        while (units < most && _layout.KindOf(leaf[first + units]) != RunKind.Data)
        {
            units++;
        }

        return units;
    }

    /// <summary>Sets entries of units that are the parent's to "zeroes"; not while somebody is filling them.</summary>
    private async ValueTask<long> ZeroEntriesAsync(long start, long end, CancellationToken cancellationToken)
    {
        long unit = _table.UnitOf(start);
        LeafTable leaf = await _table.GetLeafAsync(unit, cancellationToken).ConfigureAwait(false);
        long wanted = Math.Min((RoundUp(end) - start) / _layout.UnitSize, BlockTable.LeafEntries);
        int units = CountFree(leaf, unit, wanted);
        if (units == 0)
        {
            return 0; // A unit has appeared: by writing, then.
        }

        end = Math.Min(end, start + ((long)units * _layout.UnitSize));
        if (!_leases.TryEnter(start, RoundUp(end), out LeasedRanges.Range range, out Task wait))
        {
            await wait.WaitAsync(cancellationToken).ConfigureAwait(false);
            return 0;
        }

        try
        {
            leaf = await _table.GetLeafAsync(unit, cancellationToken).ConfigureAwait(false);
            if (CountFree(leaf, unit, units) != units)
            {
                return 0;
            }

            await ChangeAsync(unit, units, _layout.ZeroEntry!.Value, 0, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _leases.Exit(range);
        }

        await WriteBackSomeAsync(isCrowded: false, cancellationToken).ConfigureAwait(false);
        return end - start;
    }

    private async ValueTask ChangeAsync(
        long unit, int count, uint value, uint step, CancellationToken cancellationToken)
    {
        while (true)
        {
            LeafTable leaf = await _table.GetLeafAsync(unit, cancellationToken).ConfigureAwait(false);
            if (_table.Cache.TryChange(leaf, (int)(unit % BlockTable.LeafEntries), count, value, step))
            {
                return;
            }
        }
    }

    /// <summary>Flushes, unless no more than so many pieces wait when it is our turn.</summary>
    private async ValueTask WriteBackAsync(int moreThan, CancellationToken cancellationToken)
    {
        await _flushing.WaitAsync(cancellationToken).ConfigureAwait(false);
        if (_table.Cache.DirtyCount <= moreThan)
        {
            _flushing.Release(); // Somebody did it while we waited.
            return;
        }

        var writes = new List<LeafTableWrite>();
        bool succeeded = false;
        try
        {
            // One moment for all: an entry goes out only with a barrier between it and the payload it names.
            _table.Cache.TakeDirty(_table.Leaves, writes, _format.Capture);
            await _format.WriteBeforeBarrierAsync(cancellationToken).ConfigureAwait(false);
            await _layout.Node.FlushAsync(cancellationToken).ConfigureAwait(false);
            await _table.WriteAsync(writes, cancellationToken).ConfigureAwait(false);
            if (await _format.WriteAfterBarrierAsync(cancellationToken).ConfigureAwait(false) || writes.Count > 0)
            {
                await _layout.Node.FlushAsync(cancellationToken).ConfigureAwait(false);
            }

            succeeded = true;
        }
        finally
        {
            _table.Cache.EndWrite(writes, succeeded, () => _format.Complete(succeeded));
            _flushing.Release();
        }
    }

    private long RoundUp(long offset) => (offset + _layout.UnitSize - 1) / _layout.UnitSize * _layout.UnitSize;

    /// <summary>Reserved room for neighbouring units.</summary>
    private sealed class Lease : WriteLease
    {
        private readonly BlockTableMap _map;

        public Lease(
            BlockTableMap map, LeasedRanges.Range range, int units, long place, long guestStart, long guestEnd,
            long hostStart, bool isFresh)
        {
            _map = map;
            Range = range;
            Units = units;
            Place = place;
            GuestStart = guestStart;
            GuestEnd = guestEnd;
            HostStart = hostStart;
            HostReadsZero = isFresh;
        }

        /// <summary>The guest range that others wait for; the units are its first.</summary>
        public LeasedRanges.Range Range { get; }

        public int Units { get; }

        public long Place { get; }

        public long UnitStart => Range.Start;

        public override ValueTask CommitAsync(CancellationToken cancellationToken) =>
            _map.CommitAsync(this, cancellationToken);

        public override void Rollback() => _map.Rollback(this);
    }
}
