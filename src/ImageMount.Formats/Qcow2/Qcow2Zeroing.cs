using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Makes ranges read as zeroes, and frees them, by changing L2 entries only. What kind of entry says "zero" depends on
/// what would shine through without it: where no parent covers the range an unallocated entry does; over a parent it
/// takes the zero flag (or subcluster zero bits), which version 2 does not have.
/// </summary>
internal readonly struct Qcow2Zeroing
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Geometry _geometry;
    private readonly Qcow2Map _map;
    private readonly Qcow2Writer _writer;

    public Qcow2Zeroing(Qcow2Image image, Qcow2Map map, Qcow2Writer writer)
    {
        _image = image;
        _geometry = image.Geometry;
        _map = map;
        _writer = writer;
    }

    /// <summary>
    /// Zeroes whole units from the start of a range; gives the bytes done, 0 when that takes writing.
    /// </summary>
    public async ValueTask<long> ZeroAsync(long offset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        if (_image.Header.IsDataFileRaw)
        {
            return await ZeroRawAsync(offset, count, mayUnmap, cancellationToken).ConfigureAwait(false);
        }

        long end = UnitEnd(offset + count);
        if ((offset & _geometry.UnitSize - 1) != 0 || end <= offset)
        {
            return 0;
        }

        long reached = await ChangeAsync(offset, end, new Wish(mayUnmap, false, false), cancellationToken)
            .ConfigureAwait(false);
        return Math.Min(reached - offset, count);
    }

    /// <summary>Frees whole units inside a range.</summary>
    public async ValueTask DiscardAsync(long offset, long count, CancellationToken cancellationToken)
    {
        if (_image.Header.IsDataFileRaw)
        {
            // The data file alone says what the disk holds; its own discard leaves it consistent.
            await _writer.BeginChangeAsync(cancellationToken).ConfigureAwait(false);
            long inside = Math.Min(count, _image.DataFile!.Length - offset);
            if (inside > 0)
            {
                await _image.DataFile.DiscardAsync(offset, inside, cancellationToken).ConfigureAwait(false);
            }

            return;
        }

        await FreeAsync(offset, UnitEnd(offset + count), new Wish(true, true, false), cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>Frees clusters behind the disk's end, whatever they would read as.</summary>
    public ValueTask DropAsync(long offset, long end, CancellationToken cancellationToken) =>
        FreeAsync(offset, end, new Wish(true, true, true), cancellationToken);

    private async ValueTask FreeAsync(long offset, long end, Wish wish, CancellationToken cancellationToken)
    {
        for (long at = offset + _geometry.UnitSize - 1 & -(long)_geometry.UnitSize; at < end;)
        {
            long reached = await ChangeAsync(at, end, wish, cancellationToken).ConfigureAwait(false);

            // A cluster that cannot be made to read as zeroes by its entry stays as it is.
            at = reached > at ? reached : (at | (uint)(_geometry.ClusterSize - 1)) + 1;
        }
    }

    /// <summary>The end of the last whole unit. The one at the disk's end is whole when the disk ends in it.</summary>
    private long UnitEnd(long end) =>
        end >= _map.Length ? _geometry.RoundUp(end) : end & -(long)_geometry.UnitSize;

    /// <summary>
    /// A raw data file has to hold the zeroes itself. Its entries may stay: where they say zero or unallocated, the
    /// file agrees.
    /// </summary>
    private async ValueTask<long> ZeroRawAsync(
        long offset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        await _writer.BeginChangeAsync(cancellationToken).ConfigureAwait(false);
        ZeroFlags flags = mayUnmap ? ZeroFlags.MayUnmap : ZeroFlags.None;
        await _image.DataFile!.ZeroAsync(offset, count, flags, cancellationToken).ConfigureAwait(false);
        return count;
    }

    /// <summary>Changes entries of one slice, or skips what no table describes; gives how far it got.</summary>
    private async ValueTask<long> ChangeAsync(long offset, long end, Wish wish, CancellationToken cancellationToken)
    {
        while (true)
        {
            await _writer.BeginChangeAsync(cancellationToken).ConfigureAwait(false);
            ulong l1Entry = _map.L1[offset >> _geometry.L1Shift];
            if (l1Entry == 0)
            {
                long tableEnd = Math.Min(end, (offset >> _geometry.L1Shift) + 1 << _geometry.L1Shift);
                if (wish.Discards || !_image.ParentCovers(offset))
                {
                    return tableEnd; // It reads as zeroes, or as before.
                }
            }

            if (!Qcow2Tables.IsOwn(l1Entry))
            {
                await _writer.Tables.EnsureOwnAsync(offset, cancellationToken).ConfigureAwait(false);
                continue;
            }

            await _image.L2.GetAsync(_map.SliceKey(_map.TableOffset(l1Entry, offset), offset)).ConfigureAwait(false);
            Task? conflict = null;
            lock (_image.Sync)
            {
                l1Entry = _map.L1[offset >> _geometry.L1Shift];
                TableSlice? slice = Qcow2Tables.IsOwn(l1Entry)
                    ? _image.L2.Find(_map.SliceKey(_map.TableOffset(l1Entry, offset), offset))
                    : null;
                if (slice is not null)
                {
                    long clusterStart = offset & -(long)_geometry.ClusterSize;
                    if (!_writer.Leases.TryFindConflict(
                            clusterStart, _geometry.RoundUp(end), out LeasesInFlight.Hold other))
                    {
                        return ChangeSlice(slice, offset, end, wish);
                    }

                    long free = other.Start & -(long)_geometry.ClusterSize;
                    if (free > offset)
                    {
                        return ChangeSlice(slice, offset, Math.Min(free, end), wish);
                    }

                    conflict = other.WaitAsync();
                }
            }

            if (conflict is not null)
            {
                await conflict.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private long ChangeSlice(TableSlice slice, long offset, long end, Wish wish)
    {
        bool changed = false;
        int index = _map.SliceIndex(offset);
        while (offset < end && index < _geometry.SliceEntries)
        {
            long clusterEnd = (offset | (uint)(_geometry.ClusterSize - 1)) + 1;
            long stop = Math.Min(end, clusterEnd);
            Qcow2L2Entry old = _map.ReadEntry(slice, index);
            if (!TryChange(old, offset, stop, wish, out Qcow2L2Entry next, out bool frees))
            {
                break;
            }

            if (next != old)
            {
                if (!changed)
                {
                    slice.BeginChange();
                    changed = true;
                }

                _map.WriteEntry(slice, index, next);
                if (frees)
                {
                    _writer.FreeOld(old);
                }
            }

            offset = stop;
            index++;
        }

        if (changed)
        {
            slice.EndChange();
            _image.L2.MarkDirty(slice);
        }

        return offset;
    }

    /// <summary>The entry that says what is wished for a part of one cluster; false when none can.</summary>
    private bool TryChange(
        Qcow2L2Entry old, long offset, long stop, Wish wish, out Qcow2L2Entry next, out bool frees)
    {
        next = old;
        frees = false;
        bool covered = !wish.Drops && _image.ParentCovers(offset & -(long)_geometry.ClusterSize);
        if (_geometry.ExtendedL2)
        {
            return TryChangeExtended(old, offset, stop, wish, covered, out next, out frees);
        }

        bool hasFlag = _image.Header.Version >= 3;
        switch (old.Classify(_geometry, _image.Header.Version, 0, out _))
        {
            case Qcow2UnitKind.Invalid:
                return false;
            case Qcow2UnitKind.Zero:
                return true;
            case Qcow2UnitKind.Unallocated:
                if (wish.Discards || !covered)
                {
                    return true;
                }

                next = new Qcow2L2Entry(Qcow2Layout.ZeroFlag, 0);
                return hasFlag;
            case Qcow2UnitKind.ZeroAllocated when !wish.Unmaps || _image.DataFile is not null:
                return true;
        }

        if (_image.DataFile is not null || !wish.Unmaps && hasFlag && old.IsCopied)
        {
            next = new Qcow2L2Entry(old.Descriptor | Qcow2Layout.ZeroFlag, 0); // The place stays reserved.
            return true;
        }

        next = new Qcow2L2Entry(covered || hasFlag && !wish.Discards ? Qcow2Layout.ZeroFlag : 0, 0);
        frees = true;
        return hasFlag || !covered;
    }

    private bool TryChangeExtended(
        Qcow2L2Entry old, long offset, long stop, Wish wish, bool covered, out Qcow2L2Entry next, out bool frees)
    {
        next = old;
        frees = false;
        int first = (int)((offset & _geometry.ClusterSize - 1) >> _geometry.UnitBits);
        int units = (int)(stop - offset >> _geometry.UnitBits);
        uint mask = (uint)((1UL << units) - 1 << first);
        if (old.IsCompressed)
        {
            next = new Qcow2L2Entry(0, covered || !wish.Discards ? Qcow2L2Entry.AllZero : 0);
            frees = true;
            return units == _geometry.UnitsPerCluster;
        }

        if (old.Classify(_geometry, _image.Header.Version, first, out _) == Qcow2UnitKind.Invalid)
        {
            return false;
        }

        if (old == default && !covered)
        {
            return true;
        }

        uint stored = old.StoredMask & ~mask;
        uint zero = old.ZeroMask | (wish.Discards ? mask & old.StoredMask : mask);
        bool drops = stored == 0 && old.HostOffset != 0 && _image.DataFile is null && (wish.Unmaps || !old.IsCopied);
        ulong descriptor = drops ? 0 : old.Descriptor;
        next = new Qcow2L2Entry(descriptor, (ulong)zero << 32 | stored);
        frees = drops;
        return true;
    }

    /// <summary>What is wanted.</summary>
    /// <param name="Unmaps">Space may be freed.</param>
    /// <param name="Discards">What is not stored need not read as zeroes.</param>
    /// <param name="Drops">Nobody reads it any more, so the parent does not matter.</param>
    private readonly record struct Wish(bool Unmaps, bool Discards, bool Drops);
}
