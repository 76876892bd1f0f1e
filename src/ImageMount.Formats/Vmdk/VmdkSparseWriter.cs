using System.Numerics;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Changes a sparse extent, hosted or COWD. Grains are added at the end of the file and never move, so a grain that exists is
/// written in place without a lock. A new grain's table entry changes in memory when it is committed and goes to the
/// file with the next flush: barrier (payload), grain tables, and, when a table is new, barrier, grain directory; then a
/// barrier. The redundant tables are written before the ones that count. A crash between loses only what was not
/// flushed; at worst the redundant copy is ahead, which the unclean mark says.
/// </summary>
internal sealed class VmdkSparseWriter
{
    /// <summary>Changed grain tables that wait for a flush; more are written by whoever commits.</summary>
    private const int MaxDirtyTables = 256;

    /// <summary>New grains given out at a time.</summary>
    private const long MaxLease = 8 << 20;

    private readonly VmdkSparseExtent _extent;
    private readonly VmdkHeader _header;
    private readonly BlockNode _node;
    private readonly LeafTableCache _cache;
    private readonly LeasedRanges _leases = new();
    private readonly VmdkFileSpace _space;
    private readonly SemaphoreSlim _flushing = new(1, 1);
    private readonly VmdkExtentMark _mark;
    private readonly SortedSet<int> _newDirectoryEntries = []; // Guarded by the cache's lock, like the tables.

    /// <summary>Makes the writer of an extent that can be written.</summary>
    public VmdkSparseWriter(VmdkSparseExtent extent, LeafTableCache cache)
    {
        _extent = extent;
        _header = extent.Header;
        _node = extent.Node;
        _cache = cache;
        _space = new VmdkFileSpace(_node, _header.GrainSize);
        _mark = new VmdkExtentMark(extent, _space);
    }

    /// <summary>See <see cref="VmdkSparseExtent.FreeOffset"/>; null where the header does not say.</summary>
    public long? FreeOffset => _mark.FreeOffset;

    /// <summary>See <see cref="IWritableExtentMap.PrepareWriteAsync"/>.</summary>
    public ValueTask<WriteTarget> PrepareWriteAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        _mark.IsSet && TryFindInPlace(guestOffset, count, out WriteTarget target)
            ? new(target)
            : PrepareSlowlyAsync(guestOffset, count, cancellationToken);

    /// <summary>Publishes the grains of a lease.</summary>
    public async ValueTask CommitAsync(VmdkGrainLease lease, CancellationToken cancellationToken)
    {
        try
        {
            uint sector = (uint)(lease.HostStart / VmdkLayout.SectorSize);
            uint step = (uint)(_header.GrainSize / VmdkLayout.SectorSize);
            await ChangeAsync(lease.TableIndex, lease.FirstEntry, lease.Grains, sector, step, cancellationToken)
                .ConfigureAwait(false);
        }
        finally
        {
            _leases.Exit(lease.Range);
        }

        await WriteBackSomeAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Takes the room of a lease back. It may hold half a write, so it does not read as zeroes any more.</summary>
    public void Rollback(VmdkGrainLease lease)
    {
        _space.Return(lease.HostStart, (long)lease.Grains * _header.GrainSize);
        _leases.Exit(lease.Range);
    }

    /// <summary>See <see cref="VmdkExtent.ZeroAsync"/>.</summary>
    public async ValueTask<long> ZeroAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        await _mark.SetAsync(cancellationToken).ConfigureAwait(false);
        long start = guestOffset - _extent.GuestStart;
        int index = _extent.TableOf(start);
        LeafTable? table = await _extent.GetTableAsync(index, cancellationToken).ConfigureAwait(false);
        if (table is not null && TryFindInPlace(guestOffset, count, out WriteTarget target))
        {
            // Grains stay where they are: cheaper than freeing them, for which the format has no means anyway.
            await _node.ZeroAsync(
                target.HostOffset, target.Length, mayUnmap ? ZeroFlags.MayUnmap : ZeroFlags.None, cancellationToken)
                .ConfigureAwait(false);
            return target.Length;
        }

        long grain = _header.GrainSize;
        long end = Math.Min(start + count, _extent.GuestEnd - _extent.GuestStart);
        bool toEnd = end == _extent.GuestEnd - _extent.GuestStart;
        long covered = (toEnd ? RoundUp(end, grain) : end / grain * grain) - start;
        if (start % grain != 0 || covered < grain)
        {
            return 0;
        }

        table = _header.HasZeroedGrains
            ? await GetOrMakeTableAsync(index, cancellationToken).ConfigureAwait(false) : null;
        if (table is null)
        {
            return 0; // No way to say "zeroes": where there is no parent they are there already, else they are written.
        }

        int first = _extent.EntryOf(start);
        int grains = (int)Math.Min(covered / grain, _header.EntriesPerTable - first);
        int run = 0;
        while (run < grains && _extent.KindOf(table[first + run]) != RunKind.Data)
        {
            run++;
        }

        return run == 0 ? 0 : await ZeroEntriesAsync(index, first, run, start, end, cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>See <see cref="VmdkExtent.DiscardAsync"/>.</summary>
    public async ValueTask<long> DiscardAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        await _extent.LoadAsync(guestOffset, cancellationToken).ConfigureAwait(false);
        if (TryFindInPlace(guestOffset, count, out WriteTarget target))
        {
            await _mark.SetAsync(cancellationToken).ConfigureAwait(false);
            await _node.DiscardAsync(target.HostOffset, target.Length, cancellationToken).ConfigureAwait(false);
            return target.Length;
        }

        // Nothing stored here; to the next grain.
        long start = guestOffset - _extent.GuestStart;
        return Math.Min(count, ((start / _header.GrainSize) + 1) * _header.GrainSize - start);
    }

    /// <summary>Makes all that was written and committed durable.</summary>
    public ValueTask FlushAsync(CancellationToken cancellationToken) =>
        _mark.IsSet ? WriteBackAsync(moreThan: -1, cancellationToken) : default;

    /// <summary>Flushes, unless no more than so many tables wait when it is our turn.</summary>
    private async ValueTask WriteBackAsync(int moreThan, CancellationToken cancellationToken)
    {
        await _flushing.WaitAsync(cancellationToken).ConfigureAwait(false);
        if (_cache.DirtyCount <= moreThan)
        {
            _flushing.Release(); // Somebody did it while we waited.
            return;
        }

        var writes = new List<LeafTableWrite>();
        int[] entries = [];
        List<(long Offset, byte[] Sector)> directory = [];
        bool succeeded = false;
        try
        {
            // One moment for all: a directory entry goes out only with its table, a table entry only with its payload.
            _cache.TakeDirty(_extent.Tables, writes, () =>
            {
                entries = [.. _newDirectoryEntries];
                directory = CopyDirectory();
                _newDirectoryEntries.Clear();
            });
            await _mark.AnnounceSpaceAsync(cancellationToken).ConfigureAwait(false);
            await _node.FlushAsync(cancellationToken).ConfigureAwait(false);
            if (writes.Count > 0)
            {
                await WriteTablesAsync(writes, cancellationToken).ConfigureAwait(false);
                await _node.FlushAsync(cancellationToken).ConfigureAwait(false);
            }

            if (directory.Count > 0)
            {
                foreach ((long offset, byte[] sector) in directory)
                {
                    await _node.WriteAsync(offset, sector, WriteFlags.None, cancellationToken).ConfigureAwait(false);
                }

                await _node.FlushAsync(cancellationToken).ConfigureAwait(false);
            }

            succeeded = true;
        }
        finally
        {
            _cache.EndWrite(writes, succeeded, () =>
            {
                if (!succeeded)
                {
                    _newDirectoryEntries.UnionWith(entries);
                }
            });
            _flushing.Release();
        }
    }

    /// <summary>Flushes, cuts off room that was not needed, and clears the unclean mark.</summary>
    public async ValueTask CloseAsync()
    {
        if (!_mark.IsSet)
        {
            return;
        }

        await FlushAsync(CancellationToken.None).ConfigureAwait(false);
        await _mark.ClearAsync().ConfigureAwait(false);
    }

    private static long RoundUp(long value, long unit) => (value + unit - 1) / unit * unit;

    /// <summary>The run of stored grains at an offset. Grains never move, so no lock is needed to use it.</summary>
    private bool TryFindInPlace(long guestOffset, long count, out WriteTarget target)
    {
        if (!_extent.TryLookup(guestOffset, count, out MappedRun run) || run.Kind != RunKind.Data)
        {
            target = default;
            return false;
        }

        target = new WriteTarget(_node, run.HostOffset, run.Length, null);
        return true;
    }

    private async ValueTask<WriteTarget> PrepareSlowlyAsync(
        long guestOffset, long count, CancellationToken cancellationToken)
    {
        await _mark.SetAsync(cancellationToken).ConfigureAwait(false);
        long start = guestOffset - _extent.GuestStart;
        int index = _extent.TableOf(start);
        int first = _extent.EntryOf(start);
        long grainStart = start - (start % _header.GrainSize);
        while (true)
        {
            LeafTable table = await GetOrMakeTableAsync(index, cancellationToken).ConfigureAwait(false);
            if (_extent.KindOf(table[first]) == RunKind.Data)
            {
                if (TryFindInPlace(guestOffset, count, out WriteTarget target))
                {
                    return target;
                }

                continue; // The table was evicted in between.
            }

            int grains = CountFree(table, first, grainStart, start + count);
            if (grains == 0)
            {
                continue; // Committed by somebody at this moment.
            }

            long end = Math.Min(grainStart + ((long)grains * _header.GrainSize), _extent.GuestEnd - _extent.GuestStart);
            if (!_leases.TryEnter(
                _extent.GuestStart + grainStart, _extent.GuestStart + end, out LeasedRanges.Range range, out Task wait))
            {
                await wait.WaitAsync(cancellationToken).ConfigureAwait(false);
                continue;
            }

            if (CountFree(table, first, grainStart, start + count) != grains)
            {
                _leases.Exit(range); // Somebody committed after we had looked.
                continue;
            }

            return await LeaseAsync(range, index, first, grains, guestOffset, count, cancellationToken)
                .ConfigureAwait(false);
        }
    }

    private async ValueTask<WriteTarget> LeaseAsync(
        LeasedRanges.Range range, int index, int first, int grains, long guestOffset, long count,
        CancellationToken cancellationToken)
    {
        try
        {
            (long host, bool isFresh) = await _space
                .ReserveAsync((long)grains * _header.GrainSize, cancellationToken).ConfigureAwait(false);
            var lease = new VmdkGrainLease(this, range, index, first, grains, host, isFresh);
            long skip = guestOffset - range.Start;
            return new WriteTarget(_node, host + skip, Math.Min(count, range.End - guestOffset), lease);
        }
        catch
        {
            _leases.Exit(range);
            throw;
        }
    }

    private int CountFree(LeafTable table, int first, long grainStart, long end)
    {
        long wanted = Math.Min((end - grainStart + _header.GrainSize - 1) / _header.GrainSize,
            Math.Max(1, MaxLease / _header.GrainSize));
        int most = (int)Math.Min(wanted, _header.EntriesPerTable - first);
        int grains = 0;
        while (grains < most && _extent.KindOf(table[first + grains]) != RunKind.Data)
        {
            grains++;
        }

        return grains;
    }

    /// <summary>Sets entries that hold no grain to "zeroes"; not while somebody is filling them.</summary>
    private async ValueTask<long> ZeroEntriesAsync(
        int index, int first, int grains, long start, long end, CancellationToken cancellationToken)
    {
        long last = Math.Min(start + ((long)grains * _header.GrainSize), end);
        if (!_leases.TryEnter(
            _extent.GuestStart + start, _extent.GuestStart + last, out LeasedRanges.Range range, out Task wait))
        {
            await wait.WaitAsync(cancellationToken).ConfigureAwait(false);
            return 0; // Grains have appeared: by writing, then.
        }

        try
        {
            LeafTable table = await GetOrMakeTableAsync(index, cancellationToken).ConfigureAwait(false);
            for (int i = 0; i < grains; i++)
            {
                if (_extent.KindOf(table[first + i]) == RunKind.Data)
                {
                    return 0;
                }
            }

            await ChangeAsync(index, first, grains, VmdkLayout.ZeroedGrain, 0, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _leases.Exit(range);
        }

        await WriteBackSomeAsync(cancellationToken).ConfigureAwait(false);
        return last - start;
    }

    private async ValueTask ChangeAsync(
        int index, int first, int count, uint value, uint step, CancellationToken cancellationToken)
    {
        while (true)
        {
            LeafTable? table = await _extent.GetTableAsync(index, cancellationToken).ConfigureAwait(false);
            if (_cache.TryChange(table!, first, count, value, step))
            {
                return;
            }
        }
    }

    private ValueTask WriteBackSomeAsync(CancellationToken cancellationToken) =>
        _cache.DirtyCount > MaxDirtyTables ? WriteBackAsync(MaxDirtyTables, cancellationToken) : default;

    private async ValueTask<LeafTable> GetOrMakeTableAsync(int index, CancellationToken cancellationToken)
    {
        LeafTable? table = await _extent.GetTableAsync(index, cancellationToken).ConfigureAwait(false);
        if (table is not null)
        {
            return table;
        }

        SemaphoreSlim loading = _extent.LoadLock(index);
        await loading.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (Volatile.Read(ref _extent.Directory.Primary[index]) == 0)
            {
                uint[]? redundant = _extent.Directory.Redundant;
                long size = RoundUp(_header.TableSize, VmdkLayout.SectorSize);
                (long first, _) = await _space
                    .ReserveAsync(redundant is null ? size : 2 * size, cancellationToken).ConfigureAwait(false);
                AddTable(index, first, redundant is null ? 0 : first + size);
            }
        }
        finally
        {
            loading.Release();
        }

        return (await _extent.GetTableAsync(index, cancellationToken).ConfigureAwait(false))!;
    }

    /// <summary>Adds an empty grain table, in memory; it goes to the file before the directory names it.</summary>
    private void AddTable(int index, long offset, long redundantOffset)
    {
        var table = new LeafTable(_extent.Tables, index, new uint[_header.EntriesPerTable]);
        _cache.Add(table, isNew: true, () =>
        {
            if (redundantOffset != 0)
            {
                _extent.Directory.Redundant![index] = (uint)(redundantOffset / VmdkLayout.SectorSize);
            }

            Volatile.Write(ref _extent.Directory.Primary[index], (uint)(offset / VmdkLayout.SectorSize));
            _newDirectoryEntries.Add(index);
        });
    }

    /// <summary>The sectors of both directories that have new entries, the redundant ones first.</summary>
    private List<(long Offset, byte[] Sector)> CopyDirectory()
    {
        var sectors = new List<(long, byte[])>();
        Copy(_extent.Directory.Redundant, _header.RedundantDirectoryOffset);
        Copy(_extent.Directory.Primary, _header.DirectoryOffset);
        return sectors;

        void Copy(uint[]? directory, long offset)
        {
            if (directory is null)
            {
                return;
            }

            foreach (int sector in _newDirectoryEntries.Select(entry => entry / LeafTable.EntriesPerSector).Distinct())
            {
                int first = sector * LeafTable.EntriesPerSector;
                int count = Math.Min(LeafTable.EntriesPerSector, directory.Length - first);
                var bytes = new byte[count * sizeof(uint)];
                VmdkGrainDirectory.Store(directory.AsSpan(first, count), bytes);
                sectors.Add((offset + (first * sizeof(uint)), bytes));
            }
        }
    }

    private async ValueTask WriteTablesAsync(List<LeafTableWrite> writes, CancellationToken cancellationToken)
    {
        using BufferLease bytes = BufferPool.Shared.Rent(_header.TableSize);
        foreach (LeafTableWrite write in writes)
        {
            VmdkGrainDirectory.Store(write.Entries, bytes.Span);
            uint primary = _extent.Directory.Primary[write.Table.Index];
            uint redundant = _extent.Directory.Redundant?[write.Table.Index] ?? 0;
            if (redundant != 0 && redundant != primary
                && VmdkGrainDirectory.IsInside(redundant, _header.TableSize, _node.Length))
            {
                await WriteSectorsAsync(redundant, bytes.Memory, write.Sectors, cancellationToken).ConfigureAwait(false);
            }

            await WriteSectorsAsync(primary, bytes.Memory, write.Sectors, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask WriteSectorsAsync(
        uint tableSector, ReadOnlyMemory<byte> table, ulong sectors, CancellationToken cancellationToken)
    {
        while (sectors != 0)
        {
            int first = BitOperations.TrailingZeroCount(sectors);
            int count = BitOperations.TrailingZeroCount(~(sectors >> first));
            int start = first * VmdkLayout.SectorSize;
            int size = Math.Min(count * VmdkLayout.SectorSize, table.Length - start);
            await _node.WriteAsync(
                ((long)tableSector * VmdkLayout.SectorSize) + start, table.Slice(start, size), WriteFlags.None,
                cancellationToken).ConfigureAwait(false);
            sectors &= first + count >= 64 ? 0 : ulong.MaxValue << (first + count);
        }
    }
}
