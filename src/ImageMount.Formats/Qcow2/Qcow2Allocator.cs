using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Gives out host clusters ("Host cluster management"). First what is known to be free; then, once in a session, what
/// the refcount blocks say is free; then new clusters at the frontier, behind everything that was ever used. The space
/// behind the frontier is prepared in steps: the file is grown, so it reads as zeroes, and clusters from there need no
/// zeroing. Refcount blocks and a larger refcount table are made at the frontier too, in memory; they reach the disk
/// with the next write-back, before anything that relies on them.
/// </summary>
internal sealed class Qcow2Allocator
{
    private const int MaxFreeRuns = 4096;
    private readonly Qcow2Image _image;
    private readonly Qcow2Refcounts _refcounts;
    private readonly Qcow2Geometry _geometry;
    private readonly SemaphoreSlim _roomGate = new(1, 1);
    private readonly FreeRuns _free = new(MaxFreeRuns);
    private long _frontier;
    private long _preparedEnd;
    private long _scan;
    private long _scanEnd;
    private long _scanAgainFrom = long.MaxValue;

    public Qcow2Allocator(Qcow2Image image, Qcow2Refcounts refcounts, MetadataMap metadata)
    {
        _image = image;
        _refcounts = refcounts;
        _geometry = image.Geometry;
        Metadata = metadata;
    }

    /// <summary>Where no payload may go.</summary>
    public MetadataMap Metadata { get; }

    /// <summary>Told, under the lock, which clusters a larger refcount table replaced.</summary>
    public Action<long, long>? TableReplaced { get; set; }

    /// <summary>First cluster that was never used.</summary>
    public long Frontier => _frontier;

    /// <summary>Finds the frontier. Called once, before anything is allocated.</summary>
    public async ValueTask InitializeAsync()
    {
        long clusters = _geometry.ClustersFor(_image.File.Length);
        if ((_image.File.Capabilities & BlockCapabilities.Resize) == 0)
        {
            // A device that cannot grow: the image ends somewhere inside it.
            clusters = await Qcow2FileEnd.FindLastUsedAsync(_image, _refcounts)
                .ConfigureAwait(false);
        }

        _frontier = _preparedEnd = _scanEnd = clusters;
    }

    /// <summary>
    /// Takes up to <paramref name="want"/> contiguous clusters, at least 1; under the lock. False: see
    /// <paramref name="need"/>, satisfy it outside the lock, and try again.
    /// </summary>
    public bool TryAllocate(long want, out Qcow2Allocation got, out Qcow2Need need)
    {
        got = default;
        need = default;
        while (_free.TryPeek(want, out long first, out long count))
        {
            long key = _refcounts.SliceKey(first);
            TableSlice? slice = key == 0 ? null : _refcounts.Cache.Find(key);
            if (slice is null)
            {
                need = new Qcow2Need(Qcow2NeedKind.Slice, key);
                return false;
            }

            count = Math.Min(Math.Min(count, want), _refcounts.SliceEnd(first) - first);
            long usable = CountUnused(slice, first, count);
            _free.Take(first, Math.Max(usable, 1));
            if (usable > 0)
            {
                for (long i = 0; i < usable; i++)
                {
                    _refcounts.Set(slice, first + i, 1);
                }

                got = new Qcow2Allocation(first, usable, false);
                return true;
            }
        }

        if (_scan >= _scanEnd && _scanAgainFrom != long.MaxValue)
        {
            _scan = _scanAgainFrom;
            _scanEnd = _frontier;
            _scanAgainFrom = long.MaxValue;
        }

        if (_scan < _scanEnd)
        {
            need = new Qcow2Need(Qcow2NeedKind.Scan);
            return false;
        }

        long most = Math.Min(want, _refcounts.SliceEnd(_frontier) - _frontier);
        long prepared = _preparedEnd - _frontier;
        if (TryReserve(prepared > 0 ? Math.Min(most, prepared) : most, out got, out need))
        {
            return true;
        }

        if (need.Kind == Qcow2NeedKind.Room && most > 1)
        {
            long wanted = need.Value;
            if (TryReserve(1, out got, out need))
            {
                return true;
            }

            need = need.Kind == Qcow2NeedKind.Room ? need with { Value = Math.Max(need.Value, wanted) } : need;
        }

        return false;
    }

    /// <summary>
    /// Takes exactly <paramref name="count"/> contiguous new clusters at the frontier; under the lock.
    /// </summary>
    public bool TryReserve(long count, out Qcow2Allocation got, out Qcow2Need need)
    {
        got = default;
        while (true)
        {
            long blocks = CountNewBlocks(_frontier, count);
            long end = _frontier + count + blocks;
            if (_refcounts.BlockIndex(end - 1) >= _refcounts.Table.Count)
            {
                if (!TryGrowTable(end, out need))
                {
                    return false;
                }

                continue;
            }

            if (!TryCheckFrontier(end, out need, out bool moved))
            {
                return false;
            }

            if (!moved)
            {
                got = new Qcow2Allocation(_frontier, count, true);
                Commit(count);
                return true;
            }
        }
    }

    /// <summary>
    /// Allocates exactly <paramref name="count"/> contiguous clusters, reading and growing as needed.
    /// </summary>
    public async ValueTask<Qcow2Allocation> AllocateAsync(long count, CancellationToken cancellationToken)
    {
        while (true)
        {
            Qcow2Need need;
            lock (_image.Sync)
            {
                Qcow2Allocation got;
                if (count == 1 ? TryAllocate(1, out got, out need) : TryReserve(count, out got, out need))
                {
                    return got;
                }
            }

            await SatisfyAsync(need, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Does what an allocation waits for; outside the lock.</summary>
    public async ValueTask SatisfyAsync(Qcow2Need need, CancellationToken cancellationToken)
    {
        switch (need.Kind)
        {
            case Qcow2NeedKind.Slice:
                await _refcounts.Cache.GetAsync(need.Value).ConfigureAwait(false);
                break;
            case Qcow2NeedKind.Scan:
                await ScanAsync().ConfigureAwait(false);
                break;
            case Qcow2NeedKind.Room:
                await MakeRoomAsync(need.Value, need.AtLeast, cancellationToken).ConfigureAwait(false);
                break;
        }
    }

    /// <summary>Takes back clusters whose count is 0; under the lock.</summary>
    public void Release(long cluster, long count)
    {
        Metadata.Remove(cluster, count);
        for (; count > 0 && cluster >= _scan && cluster < _scanEnd; count--)
        {
            cluster++; // The scan will come by and find it.
        }

        if (count > 0 && !_free.Add(cluster, count))
        {
            _scanAgainFrom = Math.Min(_scanAgainFrom, cluster);
        }
    }

    /// <summary>
    /// Length that the file needs, when nothing is being changed: without the free clusters at its end. Under the lock.
    /// </summary>
    public long TrimmedLength() => _free.TailStart(_frontier) << _geometry.ClusterBits;

    private long CountUnused(TableSlice slice, long first, long count)
    {
        for (long i = 0; i < count; i++)
        {
            if (_refcounts.Get(slice, first + i) != 0)
            {
                return i;
            }

            if (Metadata.Contains(first + i, 1))
            {
                throw Damage(first + i);
            }
        }

        return count;
    }

    private BlockException Damage(long cluster) =>
        new(BlockErrorKind.InvalidData, "a cluster that holds metadata has a reference count of 0")
        {
            Offset = cluster << _geometry.ClusterBits,
            Hint = "Repair the image with 'qemu-img check -r all'.",
        };

    /// <summary>
    /// How many refcount blocks have to be made so that these clusters, and the blocks behind them, are counted.
    /// </summary>
    private long CountNewBlocks(long first, long count)
    {
        long blocks = 0;
        while (true)
        {
            long last = _refcounts.BlockIndex(first + count + blocks - 1);
            long missing = 0;
            for (long index = _refcounts.BlockIndex(first); index <= last; index++)
            {
                missing += _refcounts.BlockOffset(index) == 0 ? 1 : 0;
            }

            if (missing == blocks)
            {
                return blocks;
            }

            blocks = missing;
        }
    }

    /// <summary>
    /// True when everything up to <paramref name="end"/> is prepared and free. Where somebody counts a cluster behind
    /// the frontier, the frontier moves past it.
    /// </summary>
    private bool TryCheckFrontier(long end, out Qcow2Need need, out bool moved)
    {
        moved = false;
        need = default;
        for (long at = _frontier; at < end; at = _refcounts.SliceEnd(at))
        {
            long key = _refcounts.SliceKey(at);
            if (key == 0)
            {
                continue;
            }

            TableSlice? slice = _refcounts.Cache.Find(key);
            if (slice is null)
            {
                need = new Qcow2Need(Qcow2NeedKind.Slice, key);
                return false;
            }

            long sliceEnd = Math.Min(end, _refcounts.SliceEnd(at));
            for (long cluster = at; cluster < sliceEnd; cluster++)
            {
                if (_refcounts.Get(slice, cluster) != 0)
                {
                    _frontier = cluster + 1;
                    _preparedEnd = Math.Max(_preparedEnd, _frontier);
                    moved = true;
                    return true;
                }
            }
        }

        if (end > _preparedEnd)
        {
            need = new Qcow2Need(Qcow2NeedKind.Room, end - _frontier, end - _frontier);
            return false;
        }

        return true;
    }

    /// <summary>Takes clusters at the frontier, and makes the blocks that count them. Everything was checked.</summary>
    private void Commit(long count)
    {
        long first = _frontier;
        _frontier += count;
        for (long index = _refcounts.BlockIndex(first); index <= _refcounts.BlockIndex(_frontier - 1); index++)
        {
            if (_refcounts.BlockOffset(index) == 0)
            {
                long block = _frontier++;
                _refcounts.Table.Set(index, (ulong)block << _geometry.ClusterBits);
                Metadata.Add(block, 1, out _);
            }
        }

        for (long cluster = first; cluster < _frontier; cluster++)
        {
            long key = _refcounts.SliceKey(cluster);
            _refcounts.Set(_refcounts.Cache.Find(key) ?? _refcounts.Cache.AddZero(key), cluster, 1);
        }
    }

    /// <summary>
    /// Moves the refcount table to the frontier, larger. Lookups by this program use the new one at once; the header
    /// follows with the next write-back, and then the old one is free.
    /// </summary>
    private bool TryGrowTable(long end, out Qcow2Need need)
    {
        RootTable table = _refcounts.Table;
        long oldClusters = _geometry.ClustersFor(table.Count * 8L);
        long newClusters = oldClusters + Math.Max(1, oldClusters / 2);
        long limit = Qcow2Layout.MaxRefcountTableBytes >> _geometry.ClusterBits;
        long total;
        while (true)
        {
            total = newClusters + CountNewBlocks(_frontier, newClusters);
            long needed = _refcounts.BlockIndex(Math.Max(end, _frontier) + 2 * total) + 1;
            if (newClusters << _geometry.ClusterBits - 3 >= needed)
            {
                break;
            }

            newClusters = _geometry.ClustersFor(needed * 8);
            if (newClusters > limit)
            {
                break;
            }
        }

        newClusters = Math.Min(newClusters, limit);
        total = newClusters + CountNewBlocks(_frontier, newClusters);
        if (_refcounts.BlockIndex(Math.Max(end, _frontier) + 2 * total) >= newClusters << _geometry.ClusterBits - 3)
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the refcount table has reached its largest size")
            {
                Found = end.ToString(CultureInfo.InvariantCulture) + " clusters",
            };
        }

        if (!TryCheckFrontier(_frontier + total, out need, out bool moved) || moved)
        {
            return moved;
        }

        long oldFirst = table.Offset >> _geometry.ClusterBits;
        Metadata.Add(_frontier, newClusters, out _);
        table.MoveTo(_frontier << _geometry.ClusterBits, (int)(newClusters << _geometry.ClusterBits - 3));
        Commit(newClusters);
        TableReplaced?.Invoke(oldFirst, oldClusters);
        return true;
    }

    /// <summary>Looks for free clusters in the refcount blocks, from where the last look ended.</summary>
    private async ValueTask ScanAsync()
    {
        const int MaxSlices = 256;
        for (int slices = 0; slices < MaxSlices; slices++)
        {
            long key;
            lock (_image.Sync)
            {
                while (_scan < _scanEnd && _refcounts.SliceKey(_scan) == 0)
                {
                    // Not counted at all: free, but using it would need a block of its own. Left alone.
                    _scan = Math.Min(_scanEnd, _refcounts.BlockIndex(_scan) + 1 << _geometry.RefcountBlockBits);
                }

                if (_scan >= _scanEnd || _free.Count > 0 && slices > 0)
                {
                    return;
                }

                key = _refcounts.SliceKey(_scan);
            }

            await _refcounts.Cache.GetAsync(key).ConfigureAwait(false);
            lock (_image.Sync)
            {
                TableSlice? slice = _refcounts.Cache.Find(key);
                if (slice is not null && _scan < _scanEnd && _refcounts.SliceKey(_scan) == key)
                {
                    Harvest(slice);
                }
            }
        }
    }

    private void Harvest(TableSlice slice)
    {
        long end = Math.Min(_scanEnd, _refcounts.SliceEnd(_scan));
        while (_scan < end && !_free.IsFull)
        {
            long first = _scan;
            while (_scan < end && _refcounts.Get(slice, _scan) == 0 && !Metadata.Contains(_scan, 1))
            {
                _scan++;
            }

            if (_scan > first)
            {
                _free.Add(first, _scan - first);
            }
            else
            {
                _scan++;
            }
        }

        if (_free.IsFull && _scan < end)
        {
            // Come back when these are used up.
            _scanAgainFrom = Math.Min(_scanAgainFrom, _scan);
            _scan = _scanEnd;
        }
    }

    /// <summary>Prepares clusters behind the frontier, so that they are in the file and read as zeroes.</summary>
    private async ValueTask MakeRoomAsync(long clusters, long atLeast, CancellationToken cancellationToken)
    {
        await _roomGate.WaitAsync(CancellationToken.None).ConfigureAwait(false);
        try
        {
            long prepared;
            long wanted;
            long least;
            lock (_image.Sync)
            {
                prepared = _preparedEnd;
                wanted = _frontier + clusters;
                least = _frontier + atLeast;
            }

            if (wanted <= prepared)
            {
                return; // Somebody else has made room meanwhile.
            }

            long oldLength = _image.File.Length;
            long end = await Qcow2FileEnd.GrowAsync(_image, wanted << _geometry.ClusterBits, cancellationToken)
                .ConfigureAwait(false);
            if (end >> _geometry.ClusterBits < least)
            {
                throw new BlockException(BlockErrorKind.NoSpace, "there is no room for another cluster")
                {
                    Found = $"0x{end:x}",
                    Expected = $"0x{least << _geometry.ClusterBits:x}",
                    Hint = "The file below this image cannot grow.",
                };
            }

            // What was in the file before (on a device that cannot grow, say) may hold anything.
            long from = prepared << _geometry.ClusterBits;
            long to = Math.Min(oldLength, end);
            if (from < to)
            {
                await _image.File.ZeroAsync(from, to - from, ZeroFlags.MayUnmap, cancellationToken)
                    .ConfigureAwait(false);
            }

            lock (_image.Sync)
            {
                _preparedEnd = Math.Max(_preparedEnd, end >> _geometry.ClusterBits);
            }
        }
        finally
        {
            _roomGate.Release();
        }
    }
}
