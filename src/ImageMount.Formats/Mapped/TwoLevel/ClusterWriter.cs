using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>
/// The writable map of a two-level image. A write to a stored cluster goes in place, found without a lock. Any other
/// gets room at the end of the file, held by a lease until the payload is there; the commit then changes cached L2
/// entries, and <see cref="ClusterFlush"/> makes them durable in a safe order. Clusters never move and are never freed,
/// so nobody can hold a mapping that was replaced by reuse.
/// </summary>
internal sealed class ClusterWriter : IWritableExtentMap
{
    /// <summary>Most bytes of one lease; a cluster at least.</summary>
    private const long MaxLease = 16 << 20;

    private readonly ClusterImage _image;
    private readonly ClusterGeometry _geometry;
    private readonly ClusterMap _map;
    private readonly MetadataMap _metadata;
    private readonly ClusterFlush _flush;
    private readonly LeasesInFlight _leases = new();
    private readonly SemaphoreSlim _tableGate = new(1, 1);

    /// <summary>Makes the map.</summary>
    /// <param name="image">The image.</param>
    /// <param name="map">Its lookups.</param>
    /// <param name="metadata">Clusters that payload is never written to; new tables are added.</param>
    /// <param name="space">Room for clusters.</param>
    /// <param name="change">What has to be done before the first change at all.</param>
    /// <param name="mapping">What has to be done, besides, before the first change of a table.</param>
    public ClusterWriter(
        ClusterImage image, ClusterMap map, MetadataMap metadata, ClusterSpace space, FirstTime change,
        FirstTime mapping)
    {
        _image = image;
        _geometry = image.Geometry;
        _map = map;
        _metadata = metadata;
        _flush = new ClusterFlush(image);
        Space = space;
        Change = change;
        Mapping = mapping;
    }

    /// <summary>Room for clusters.</summary>
    public ClusterSpace Space { get; }

    /// <summary>What comes before the first change at all.</summary>
    public FirstTime Change { get; }

    /// <summary>What comes before the first change of a table.</summary>
    public FirstTime Mapping { get; }

    /// <summary>Guest ranges whose mapping is being changed; under the image's lock.</summary>
    public LeasesInFlight Leases => _leases;

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
        Change.IsDone
        && _map.TryFindInPlace(guestOffset, count, out long host, out long length)
        && host + length <= _image.File.Length
        && !IsMetadata(host, length)
            ? new(new WriteTarget(_image.File, host, length, null))
            : PrepareSlowlyAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public ValueTask<long> ZeroUnitsAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken) =>
        new ClusterZeroing(_image, _map, this).ZeroAsync(guestOffset, count, mayUnmap, cancellationToken);

    /// <inheritdoc/>
    public ValueTask DiscardUnitsAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        new ClusterZeroing(_image, _map, this).DiscardAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public ValueTask FlushAsync(CancellationToken cancellationToken) =>
        Change.IsDone ? _flush.RunAsync(cancellationToken) : default;

    /// <inheritdoc/>
    public ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) => new(false);

    /// <summary>What every change does first: preparations, and room for more dirty tables.</summary>
    public async ValueTask BeginChangeAsync(CancellationToken cancellationToken)
    {
        await Change.EnsureAsync().ConfigureAwait(false);
        if (_image.L2.IsCrowded)
        {
            await _flush.RunAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Sees to it that a stored run may be changed in place: the file may end within its last cluster, and grows then.
    /// </summary>
    /// <exception cref="BlockException">InvalidData: it lies outside the file or over metadata.</exception>
    public ValueTask CheckPlaceAsync(in ClusterMap.Piece piece, long guestOffset, CancellationToken cancellationToken)
    {
        long end = piece.Host + piece.Length;
        long fileEnd = _image.IsPlain ? _geometry.RoundUp(_image.File.Length) : _image.File.Length;
        if (end > fileEnd || IsMetadata(piece.Host, piece.Length))
        {
            throw _image.BadEntry("a cluster lies outside the file or over the metadata", piece.Entry, guestOffset);
        }

        return end <= _image.File.Length ? default : Space.FillLastClusterAsync(cancellationToken);
    }

    /// <summary>Makes an empty L2 table for a guest offset, unless there is one by now.</summary>
    public async ValueTask MakeTableAsync(long guestOffset, CancellationToken cancellationToken)
    {
        await Mapping.EnsureAsync().ConfigureAwait(false);
        await _tableGate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            long index = _geometry.L1Index(guestOffset);
            if (_image.TableOffset(_image.L1[index], guestOffset) != 0)
            {
                return;
            }

            ClusterSpace.Room room = await Space.TakeAsync(_geometry.L2Clusters, cancellationToken)
                .ConfigureAwait(false);
            if (!room.ReadsZero)
            {
                await ClearAsync(room, cancellationToken).ConfigureAwait(false);
            }

            lock (_image.Sync)
            {
                _metadata.Add(room.Host >> _geometry.ClusterBits, room.Clusters, out _);
                _image.L1.Set(index, _image.Encoding.MakeTable(room.Host));
            }
        }
        finally
        {
            _tableGate.Release();
        }
    }

    /// <summary>Publishes a lease's mapping.</summary>
    public async ValueTask CommitAsync(ClusterLease lease)
    {
        long table = _image.TableOffset(_image.L1[_geometry.L1Index(lease.GuestStart)], lease.GuestStart);
        long key = table + _geometry.SliceStart(lease.GuestStart);
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
                        _leases.Remove(lease.Hold);
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
    public void Rollback(ClusterLease lease)
    {
        Space.Return(lease.HostStart, lease.Clusters);
        lock (_image.Sync)
        {
            _leases.Remove(lease.Hold);
        }
    }

    /// <summary>Writes everything back and cuts off room that was not needed. True: something had changed.</summary>
    public async ValueTask<bool> CloseAsync()
    {
        if (!Change.IsDone)
        {
            return false;
        }

        await _flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
        await Space.TrimAsync().ConfigureAwait(false);
        return true;
    }

    private bool IsMetadata(long host, long length)
    {
        long first = host >> _geometry.ClusterBits;
        return _metadata.Contains(first, ((host + length - 1) >> _geometry.ClusterBits) - first + 1);
    }

    private async ValueTask ClearAsync(ClusterSpace.Room room, CancellationToken cancellationToken)
    {
        try
        {
            await _image.File.ZeroAsync(
                room.Host, room.Clusters << _geometry.ClusterBits, ZeroFlags.None, cancellationToken)
                .ConfigureAwait(false);
        }
        catch
        {
            Space.Return(room.Host, room.Clusters);
            throw;
        }
    }

    private async ValueTask<WriteTarget> PrepareSlowlyAsync(
        long guestOffset, long count, CancellationToken cancellationToken)
    {
        while (true)
        {
            await BeginChangeAsync(cancellationToken).ConfigureAwait(false);
            long table = _image.TableOffset(_image.L1[_geometry.L1Index(guestOffset)], guestOffset);
            if (table == 0)
            {
                await MakeTableAsync(guestOffset, cancellationToken).ConfigureAwait(false);
                continue;
            }

            long key = table + _geometry.SliceStart(guestOffset);
            await _image.L2.GetAsync(key).ConfigureAwait(false);
            Outcome outcome;
            lock (_image.Sync)
            {
                outcome = _image.L2.Find(key) is { } slice ? TryPlace(slice, guestOffset, count) : default;
            }

            switch (outcome)
            {
                case { Lease: { } lease }:
                    long skip = guestOffset - lease.GuestStart;
                    return new WriteTarget(
                        _image.File, lease.HostStart + skip, Math.Min(count, lease.GuestEnd - guestOffset), lease);
                case { Stored: { Length: > 0 } stored }:
                    await CheckPlaceAsync(stored, guestOffset, cancellationToken).ConfigureAwait(false);
                    return new WriteTarget(_image.File, stored.Host, stored.Length, null);
                case { Conflict: { } conflict }:
                    await conflict.WaitAsync(cancellationToken).ConfigureAwait(false);
                    break;
                case { MissingClusters: > 0 }:
                    await Space.GrowAsync(outcome.MissingClusters, cancellationToken).ConfigureAwait(false);
                    break;
                default:
                    await Mapping.EnsureAsync().ConfigureAwait(false); // Or the slice was evicted: again.
                    break;
            }
        }
    }

    /// <summary>Finds where a write goes, or what has to be done first; under the lock.</summary>
    private Outcome TryPlace(TableSlice slice, long guestOffset, long count)
    {
        ClusterMap.Piece piece = _map.Decode(slice, guestOffset, count);
        if (piece.Kind == ClusterKind.Invalid)
        {
            throw _image.BadEntry("an L2 entry is invalid", piece.Entry, guestOffset);
        }

        if (piece.IsInPlace(_geometry, guestOffset))
        {
            return new Outcome { Stored = piece with { Length = Math.Min(piece.Length, count) } };
        }

        if (!Mapping.IsDone)
        {
            return default;
        }

        long start = _geometry.RoundDown(guestOffset);
        long clusters = CountReplaceable(slice, start, guestOffset + count);
        if (_leases.TryFindConflict(start, start + (clusters << _geometry.ClusterBits), out LeasesInFlight.Hold other))
        {
            if (other.Start <= start)
            {
                return new Outcome { Conflict = other.WaitAsync() };
            }

            clusters = (other.Start - start) >> _geometry.ClusterBits;
        }

        if (!Space.TryTake(clusters, exact: false, out ClusterSpace.Room room))
        {
            return new Outcome { MissingClusters = clusters };
        }

        LeasesInFlight.Hold hold = _leases.Add(start, start + (room.Clusters << _geometry.ClusterBits));
        return new Outcome { Lease = new ClusterLease(this, hold, room, room.ReadsZero && _image.IsPlain) };
    }

    /// <summary>Clusters from one on that a write needs new places for; at least one.</summary>
    private long CountReplaceable(TableSlice slice, long start, long end)
    {
        long most = Math.Min((end - start + _geometry.ClusterSize - 1) >> _geometry.ClusterBits,
            Math.Max(1, MaxLease >> _geometry.ClusterBits));
        int index = _geometry.SliceIndex(start);
        long clusters = 1;
        while (clusters < most && index + clusters < _geometry.SliceEntries
            && _image.Encoding.Classify(slice.Word((int)(index + clusters)), out _)
                is ClusterKind.Unallocated or ClusterKind.Zero or ClusterKind.Compressed)
        {
            clusters++;
        }

        return clusters;
    }

    private void Publish(TableSlice slice, ClusterLease lease)
    {
        int index = _geometry.SliceIndex(lease.GuestStart);
        slice.BeginChange();
        for (int i = 0; i < lease.Clusters; i++)
        {
            long host = lease.HostStart + ((long)i << _geometry.ClusterBits);
            slice.SetWord(index + i, _image.Encoding.MakeData(host));
        }

        slice.EndChange();
        _image.L2.MarkDirty(slice);
    }

    /// <summary>Where a write goes, or what to wait for; nothing at all: try again.</summary>
    private readonly record struct Outcome
    {
        public ClusterLease? Lease { get; init; }

        public ClusterMap.Piece Stored { get; init; }

        public Task? Conflict { get; init; }

        public long MissingClusters { get; init; }
    }
}
