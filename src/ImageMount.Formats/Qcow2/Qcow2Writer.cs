using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// The writable map. A write to a stored cluster with a reference count of one goes in place, found without a lock. Any
/// other gets room: new clusters, or the preallocated ones of a zero entry, held by a lease until the payload is there;
/// the commit then changes cached L2 entries, and <see cref="Qcow2Flush"/> makes them durable in a safe order.
/// </summary>
internal sealed class Qcow2Writer : IWritableExtentMap
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Geometry _geometry;
    private readonly Qcow2Map _map;

    public Qcow2Writer(
        Qcow2Image image, Qcow2Map map, Qcow2Session session, Qcow2Refcounts refcounts, Qcow2Allocator allocator,
        bool discards, Func<ValueTask> quiesce)
    {
        _image = image;
        _geometry = image.Geometry;
        _map = map;
        Session = session;
        Refcounts = refcounts;
        Allocator = allocator;
        Reaper = new Qcow2Reaper(image, refcounts, allocator, discards, quiesce);
        Tables = new Qcow2Tables(image, map, allocator, Reaper);
        Flush = new Qcow2Flush(image, map, refcounts, Reaper);
        allocator.TableReplaced = Reaper.Add;
    }

    /// <summary>Whether changes are allowed.</summary>
    public Qcow2Session Session { get; }

    /// <summary>Reference counts.</summary>
    public Qcow2Refcounts Refcounts { get; }

    /// <summary>Gives out clusters.</summary>
    public Qcow2Allocator Allocator { get; }

    /// <summary>Takes clusters back.</summary>
    public Qcow2Reaper Reaper { get; }

    /// <summary>L2 tables that may be changed.</summary>
    public Qcow2Tables Tables { get; }

    /// <summary>Write-back.</summary>
    public Qcow2Flush Flush { get; }

    /// <summary>Guest ranges whose mapping is being changed; under the image's lock.</summary>
    public LeasesInFlight Leases { get; } = new();

    /// <inheritdoc/>
    public long Length => _map.Length;

    /// <inheritdoc/>
    public BlockNode? Backing => _map.Backing;

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        _map.LookupAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public ValueTask<WriteTarget> PrepareWriteAsync(
        long guestOffset, long count, CancellationToken cancellationToken) =>
        Session.IsReady
        && _map.TryFindInPlace(guestOffset, count, out long host, out long length)
        && IsPayload(guestOffset, host, length)
            ? new(new WriteTarget(_image.Payload, host, length, null))
            : PrepareSlowlyAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public ValueTask<long> ZeroUnitsAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken) =>
        new Qcow2Zeroing(_image, _map, this).ZeroAsync(guestOffset, count, mayUnmap, cancellationToken);

    /// <inheritdoc/>
    public ValueTask DiscardUnitsAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        new Qcow2Zeroing(_image, _map, this).DiscardAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public ValueTask FlushAsync(CancellationToken cancellationToken) =>
        Session.HasBegun ? Flush.RunAsync(cancellationToken)
        : _image.DataFile?.FlushAsync(cancellationToken) ?? default; // The kernel may have written it by itself.

    /// <inheritdoc/>
    public ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) =>
        throw new NotSupportedException("the device resizes, because it has to zero what appears");

    /// <summary>
    /// What every change does first: may the image be changed, and is there room for more dirty tables?
    /// </summary>
    public async ValueTask BeginChangeAsync(CancellationToken cancellationToken)
    {
        await Session.BeginAsync().ConfigureAwait(false);
        if (Flush.IsCrowded)
        {
            await Flush.RunAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Notes what an entry gave up; under the lock, together with its change.</summary>
    public void FreeOld(Qcow2L2Entry old)
    {
        if (_image.DataFile is not null)
        {
            return; // Clusters of a data file are not counted.
        }

        if (!old.IsCompressed)
        {
            if (old.HostOffset != 0)
            {
                Reaper.Add(old.HostOffset >> _geometry.ClusterBits, 1);
            }
        }
        else if (old.TryGetCompressed(_geometry, out long offset, out int length))
        {
            // Every cluster that a compressed one touches counts it.
            long first = offset >> _geometry.ClusterBits;
            Reaper.Add(first, (offset + length - 1 >> _geometry.ClusterBits) - first + 1);
        }
    }

    /// <summary>Publishes a lease's mapping.</summary>
    public async ValueTask CommitAsync(Qcow2Lease lease)
    {
        ulong l1Entry = _map.L1[lease.GuestStart >> _geometry.L1Shift];
        long key = _map.SliceKey((long)(l1Entry & Qcow2Layout.OffsetMask), lease.GuestStart);
        try
        {
            while (true)
            {
                await _image.L2.GetAsync(key).ConfigureAwait(false);
                lock (_image.Sync)
                {
                    TableSlice? slice = _image.L2.Find(key);
                    if (slice is not null)
                    {
                        Publish(slice, lease);
                        Leases.Remove(lease.Hold);
                        return;
                    }
                }
            }
        }
        catch
        {
            Rollback(lease);
            throw;
        }
    }

    /// <summary>Gives a lease's room back.</summary>
    public void Rollback(Qcow2Lease lease)
    {
        lock (_image.Sync)
        {
            if (lease.Fresh.Count > 0)
            {
                Reaper.AddUnused(lease.Fresh);
            }

            Leases.Remove(lease.Hold);
        }
    }

    /// <summary>Waits for whatever a try under the lock asked for.</summary>
    public async ValueTask WaitAsync(Task? conflict, Qcow2Need need, CancellationToken cancellationToken)
    {
        if (conflict is not null)
        {
            await conflict.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        else
        {
            await Allocator.SatisfyAsync(need, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// True when a place found in an L2 entry may be written: inside the node, and not metadata. The slow path finds
    /// out again, and says what is wrong.
    /// </summary>
    private bool IsPayload(long guestOffset, long host, long length)
    {
        if (_image.DataFile is { } dataFile)
        {
            return host == guestOffset && host + length <= dataFile.Length;
        }

        long first = host >> _geometry.ClusterBits;
        long last = host + length - 1 >> _geometry.ClusterBits;
        return host >= _geometry.ClusterSize && host + length <= _image.File.Length
            && !Allocator.Metadata.Contains(first, last - first + 1);
    }

    private async ValueTask<WriteTarget> PrepareSlowlyAsync(
        long guestOffset, long count, CancellationToken cancellationToken)
    {
        while (true)
        {
            await BeginChangeAsync(cancellationToken).ConfigureAwait(false);
            ulong l1Entry = _map.L1[guestOffset >> _geometry.L1Shift];
            if (!Qcow2Tables.IsOwn(l1Entry))
            {
                await Tables.EnsureOwnAsync(guestOffset, cancellationToken).ConfigureAwait(false);
                continue;
            }

            await _image.L2.GetAsync(_map.SliceKey(_map.TableOffset(l1Entry, guestOffset), guestOffset))
                .ConfigureAwait(false);
            Task? conflict;
            Qcow2Need need;
            try
            {
                lock (_image.Sync)
                {
                    var attempt = new Qcow2Placement(_image, _map, this, guestOffset, count);
                    if (attempt.TryPlace(out WriteTarget target, out conflict, out need))
                    {
                        return target;
                    }
                }
            }
            catch (BlockException damage) when (damage.Kind == BlockErrorKind.InvalidData)
            {
                await Session.ReportDamageAsync(damage).ConfigureAwait(false);
                throw;
            }

            await WaitAsync(conflict, need, cancellationToken).ConfigureAwait(false);
        }
    }

    private void Publish(TableSlice slice, Qcow2Lease lease)
    {
        int mask = _geometry.ClusterSize - 1;
        slice.BeginChange();
        for (long at = lease.GuestStart; at < lease.GuestEnd;)
        {
            long clusterEnd = (at | (uint)mask) + 1;
            long end = Math.Min(clusterEnd, lease.GuestEnd);
            long host = lease.HostStart + (at - lease.GuestStart) & ~(long)mask;
            int index = _map.SliceIndex(at);
            Qcow2L2Entry old = _map.ReadEntry(slice, index);
            ulong bitmap = 0;
            if (_geometry.ExtendedL2)
            {
                int first = (int)((at & mask) >> _geometry.UnitBits);
                int units = (int)(end - at + _geometry.UnitSize - 1 >> _geometry.UnitBits);
                ulong stored = ((1UL << units) - 1) << first;
                bitmap = (old.IsCompressed ? 0 : old.Bitmap) & ~(stored << 32) | stored;
            }

            _map.WriteEntry(slice, index, new Qcow2L2Entry((ulong)host | Qcow2Layout.CopiedFlag, bitmap));
            if (lease.Fresh.Count > 0)
            {
                FreeOld(old);
            }

            at = end;
        }

        slice.EndChange();
        _image.L2.MarkDirty(slice);
    }
}
