using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Changes a disk. Sectors that have a place are written there: no lock, no metadata. Else room is reserved: for whole
/// blocks, or, over a parent, for the sectors of one block that are written; their bits in the sector bitmap and the
/// BAT entry change when the payload is written. Changes of tables are made in memory and go through the log with the
/// next flush (<see cref="VhdxFlush"/>).
/// </summary>
internal sealed class VhdxWriter : IWritableExtentMap
{
    /// <summary>New blocks given out at a time, when they are small.</summary>
    private const long MaxLease = 16 << 20;

    private readonly VhdxImage _image;
    private readonly VhdxMap _map;
    private readonly VhdxGeometry _geometry;
    private readonly VhdxZeroing _zeroing;
    private readonly VhdxPublisher _publisher;
    private readonly SemaphoreSlim _bitmapGate = new(1, 1);

    public VhdxWriter(VhdxImage image, VhdxMap map, bool discards, Func<ValueTask> quiesce)
    {
        _image = image;
        _map = map;
        _geometry = image.Geometry;
        Session = new VhdxSession(image);
        Flush = new VhdxFlush(image, Session, quiesce, discards);
        _publisher = new VhdxPublisher(image, map);
        _zeroing = new VhdxZeroing(image, map, this, discards);
    }

    /// <inheritdoc/>
    public long Length => _map.Length;

    /// <inheritdoc/>
    public BlockNode? Backing => _map.Backing;

    /// <summary>What is done before the first change.</summary>
    public VhdxSession Session { get; }

    /// <summary>Writes back.</summary>
    public VhdxFlush Flush { get; }

    /// <summary>Guest ranges whose mapping is being changed; under the lock.</summary>
    public LeasesInFlight Leases { get; } = new();

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        _map.LookupAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public ValueTask<WriteTarget> PrepareWriteAsync(
        long guestOffset, long count, CancellationToken cancellationToken) =>
        Session.HasBegun && _map.TryLookup(guestOffset, count, out MappedRun run) && run.Kind == RunKind.Data
            ? new(new WriteTarget(_image.File, run.HostOffset, run.Length, null))
            : PrepareSlowlyAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public async ValueTask<long> ZeroUnitsAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        await Session.BeginAsync(cancellationToken).ConfigureAwait(false);
        return await _zeroing.ZeroAsync(guestOffset, count, mayUnmap, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask DiscardUnitsAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        await Session.BeginAsync(cancellationToken).ConfigureAwait(false);
        long end = guestOffset + count;
        while (guestOffset < end)
        {
            guestOffset += await _zeroing.DiscardAsync(guestOffset, end - guestOffset, cancellationToken)
                .ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public ValueTask FlushAsync(CancellationToken cancellationToken) =>
        Session.HasBegun ? Flush.RunAsync(cancellationToken) : default;

    /// <inheritdoc/>
    public ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) => new(false);

    /// <summary>Publishes what a lease maps.</summary>
    public async ValueTask CommitAsync(VhdxLease lease)
    {
        try
        {
            long[] keys = lease.Kind == VhdxLeaseKind.Blocks ? []
                : await _publisher.BitmapKeysAsync(lease).ConfigureAwait(false);
            long batKey = _image.BatKey(_geometry.EntryOf(lease.GuestStart >> _geometry.BlockBits));
            await ChangeAsync([batKey, .. keys], () =>
            {
                _publisher.Publish(lease, batKey, keys);
                Leases.Remove(lease.Hold);
            }).ConfigureAwait(false);
        }
        catch
        {
            Rollback(lease);
            throw;
        }
    }

    /// <summary>Gives a lease's room back.</summary>
    public void Rollback(VhdxLease lease)
    {
        if (lease.Kind == VhdxLeaseKind.Blocks && !lease.IsOldPlace)
        {
            Session.Space.Return(lease.HostStart, lease.GuestEnd - lease.GuestStart);
        }
        else if (lease.Kind == VhdxLeaseKind.FirstSectors)
        {
            Session.Space.Return(_publisher.BlockHost(lease), _geometry.BlockSize);
        }

        lock (_image.Sync)
        {
            Leases.Remove(lease.Hold);
        }
    }

    /// <summary>
    /// Makes a change of cached pieces, all of which are at hand when <paramref name="change"/> runs under the lock.
    /// When too much waits for a flush already, flushes first.
    /// </summary>
    public async ValueTask ChangeAsync(long[] keys, Action change)
    {
        while (true)
        {
            foreach (long key in keys)
            {
                await _image.Tables.GetAsync(key).ConfigureAwait(false);
            }

            lock (_image.Sync)
            {
                if (Flush.HasRoom(keys.Length))
                {
                    if (!Array.TrueForAll(keys, key => _image.Tables.Find(key) is not null))
                    {
                        continue;
                    }

                    change();
                    return;
                }
            }

            await Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
        }
    }

    /// <summary>Sets BAT entries of one piece; under the lock, the piece at hand.</summary>
    public void SetEntries(long batKey, IEnumerable<(long Entry, ulong Value)> changes) =>
        _publisher.SetEntries(batKey, changes);

    private async ValueTask<WriteTarget> PrepareSlowlyAsync(
        long guestOffset, long count, CancellationToken cancellationToken)
    {
        await Session.BeginAsync(cancellationToken).ConfigureAwait(false);
        while (true)
        {
            await _map.LoadAsync(guestOffset).ConfigureAwait(false);
            Plan plan;
            lock (_image.Sync)
            {
                plan = MakePlan(guestOffset, count);
            }

            switch (plan.Step)
            {
                case PlanStep.InPlace:
                    return new WriteTarget(_image.File, plan.Host, plan.Length, null);
                case PlanStep.Wait:
                    await plan.Conflict!.WaitAsync(cancellationToken).ConfigureAwait(false);
                    break;
                case PlanStep.NeedBitmap:
                    await EnsureBitmapAsync(guestOffset >> _geometry.BlockBits, cancellationToken)
                        .ConfigureAwait(false);
                    break;
                case PlanStep.Lease:
                    return await LeaseAsync(plan, guestOffset, count, cancellationToken).ConfigureAwait(false);
                default:
                    break; // A piece was evicted meanwhile.
            }
        }
    }

    /// <summary>Decides how a write is to be done, and holds its range; under the lock.</summary>
    private Plan MakePlan(long guestOffset, long count)
    {
        long block = guestOffset >> _geometry.BlockBits;
        long batKey = _image.BatKey(_geometry.EntryOf(block));
        if (!_map.TryLookup(guestOffset, count, out MappedRun run) || _image.Tables.Find(batKey) is not { } bat)
        {
            return default;
        }

        if (run.Kind == RunKind.Data)
        {
            return new Plan { Step = PlanStep.InPlace, Host = run.HostOffset, Length = run.Length };
        }

        ulong entry = bat.Word(VhdxImage.BatIndex(_geometry.EntryOf(block)));
        long blockStart = block << _geometry.BlockBits;
        long start = guestOffset & -(long)_geometry.SectorSize;
        long end = Math.Min(guestOffset + Math.Min(count, run.Length), blockStart + _geometry.BlockSize);
        end = (end + _geometry.SectorSize - 1) & -(long)_geometry.SectorSize;
        if (VhdxMap.StateOf(entry) == VhdxState.PartiallyPresent)
        {
            long host = VhdxMap.PlaceOf(entry) + (start - blockStart);
            _map.CheckPlace(host, end - start, _image.File.Length, guestOffset);
            return Hold(start, end, new Plan
            {
                Step = PlanStep.Lease,
                Kind = VhdxLeaseKind.MoreSectors,
                Start = start,
                End = end,
                Host = host,
            });
        }

        if (run.Kind == RunKind.Parent && !CoversBlock(blockStart, guestOffset, guestOffset + count))
        {
            return PlanFirstSectors(block, start, end);
        }

        return PlanBlocks(bat, block, entry, guestOffset, count);
    }

    private bool CoversBlock(long blockStart, long from, long to) =>
        from <= blockStart && to >= Math.Min(blockStart + _geometry.BlockSize, Length);

    private Plan PlanFirstSectors(long block, long start, long end)
    {
        long bitmapEntry = _geometry.BitmapEntryOf(block);
        ulong bitmap = _image.Tables.Find(_image.BatKey(bitmapEntry))?.Word(VhdxImage.BatIndex(bitmapEntry)) ?? 0;
        if ((bitmap & VhdxLayout.StateMask) != (ulong)VhdxState.FullyPresent)
        {
            return new Plan { Step = PlanStep.NeedBitmap };
        }

        long blockStart = block << _geometry.BlockBits;
        return Hold(blockStart, blockStart + _geometry.BlockSize, new Plan
        {
            Step = PlanStep.Lease,
            Kind = VhdxLeaseKind.FirstSectors,
            Start = start,
            End = end,
        });
    }

    private Plan PlanBlocks(TableSlice bat, long block, ulong first, long guestOffset, long count)
    {
        long start = block << _geometry.BlockBits;
        long place = VhdxMap.PlaceOf(first);
        bool hasOldPlace = VhdxUsage.HasPlace(first, isBitmap: false)
            && place >= VhdxLayout.HeaderSectionSize && place <= _image.File.Length - _geometry.BlockSize
            && !_image.Regions.Overlaps(place, _geometry.BlockSize);
        long end = start + _geometry.BlockSize;
        while (!hasOldPlace && end < guestOffset + count && end - start < MaxLease)
        {
            long entryIndex = _geometry.EntryOf(end >> _geometry.BlockBits);
            if (_image.BatKey(entryIndex) != _image.BatKey(_geometry.EntryOf(block)))
            {
                break;
            }

            ulong entry = bat.Word(VhdxImage.BatIndex(entryIndex));
            VhdxState state = VhdxMap.StateOf(entry);
            bool isFree = state is VhdxState.NotPresent or VhdxState.Zero
                || (state is VhdxState.Undefined or VhdxState.Unmapped && VhdxMap.PlaceOf(entry) == 0);
            bool isParents = state == VhdxState.NotPresent && _geometry.HasParent;
            if (!isFree || (isParents && !CoversBlock(end, guestOffset, guestOffset + count))
                || Leases.TryFindConflict(end, end + _geometry.BlockSize, out _))
            {
                break;
            }

            end += _geometry.BlockSize;
        }

        return Hold(start, end, new Plan
        {
            Step = PlanStep.Lease,
            Kind = VhdxLeaseKind.Blocks,
            Start = start,
            End = end,
            Host = hasOldPlace ? place : 0,
        });
    }

    private Plan Hold(long start, long end, Plan plan) =>
        Leases.TryFindConflict(start, end, out LeasesInFlight.Hold conflict)
            ? new Plan { Step = PlanStep.Wait, Conflict = conflict.WaitAsync() }
            : plan with { Held = Leases.Add(start, end) };

    private async ValueTask<WriteTarget> LeaseAsync(
        Plan plan, long guestOffset, long count, CancellationToken cancellationToken)
    {
        try
        {
            long host = plan.Host;
            bool zero = false;
            bool isOld = plan.Kind == VhdxLeaseKind.Blocks && host != 0;
            if (isOld)
            {
                zero = await Session.Space.TryClearAsync(host, _geometry.BlockSize, cancellationToken)
                    .ConfigureAwait(false);
            }
            else if (plan.Kind == VhdxLeaseKind.Blocks)
            {
                (host, zero) = await Session.Space.ReserveAsync(plan.End - plan.Start, cancellationToken)
                    .ConfigureAwait(false);
            }
            else if (plan.Kind == VhdxLeaseKind.FirstSectors)
            {
                (host, zero) = await Session.Space.ReserveAsync(_geometry.BlockSize, cancellationToken)
                    .ConfigureAwait(false);
                host += plan.Start & (_geometry.BlockSize - 1);
            }

            var lease = new VhdxLease(this, plan.Kind, plan.Held!, plan.Start, plan.End, host, zero)
            {
                IsOldPlace = isOld,
            };
            return new WriteTarget(
                _image.File, host + (guestOffset - plan.Start), Math.Min(count, plan.End - guestOffset), lease);
        }
        catch
        {
            lock (_image.Sync)
            {
                Leases.Remove(plan.Held!);
            }

            throw;
        }
    }

    /// <summary>Sees to it that the chunk of a block has a sector bitmap, of zeroes when it is new.</summary>
    private async ValueTask EnsureBitmapAsync(long block, CancellationToken cancellationToken)
    {
        long entry = _geometry.BitmapEntryOf(block);
        await _bitmapGate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            ulong old = await _map.ReadEntryAsync(entry).ConfigureAwait(false);
            if ((old & VhdxLayout.StateMask) == (ulong)VhdxState.FullyPresent)
            {
                _map.BitmapPlace(old, block << _geometry.BlockBits, _image.File.Length);
                return;
            }

            (long host, bool zero) = await Session.Space.ReserveAsync(VhdxLayout.MiB, cancellationToken)
                .ConfigureAwait(false);
            try
            {
                if (!zero)
                {
                    await _image.File.ZeroAsync(host, VhdxLayout.MiB, ZeroFlags.None, cancellationToken)
                        .ConfigureAwait(false);
                }

                long key = _image.BatKey(entry);
                await ChangeAsync(
                    [key], () => SetEntries(key, [(entry, (ulong)host | (ulong)VhdxState.FullyPresent)]))
                    .ConfigureAwait(false);
            }
            catch
            {
                Session.Space.Return(host, VhdxLayout.MiB);
                throw;
            }
        }
        finally
        {
            _bitmapGate.Release();
        }
    }

    /// <summary>How a write goes on.</summary>
    private enum PlanStep
    {
        /// <summary>A piece is not at hand any more.</summary>
        Again,

        /// <summary>The range has its place.</summary>
        InPlace,

        /// <summary>Somebody changes the range.</summary>
        Wait,

        /// <summary>The chunk has no sector bitmap yet.</summary>
        NeedBitmap,

        /// <summary>The range is held; room may be needed.</summary>
        Lease,
    }

    private readonly record struct Plan
    {
        public PlanStep Step { get; init; }

        public VhdxLeaseKind Kind { get; init; }

        public long Start { get; init; }

        public long End { get; init; }

        /// <summary>Where the start goes; 0 when room is to be reserved.</summary>
        public long Host { get; init; }

        public long Length { get; init; }

        public Task? Conflict { get; init; }

        public LeasesInFlight.Hold? Held { get; init; }
    }
}
