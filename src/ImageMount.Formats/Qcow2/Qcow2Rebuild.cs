using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// Rebuilds the reference counts of an image whose dirty bit is set ("Header", bit 0): counts who points to each
/// cluster, from all tables, corrects the refcount blocks and the copied flags of the active tables, and only then
/// clears the bit. A crash on the way leaves the bit set, and the next opening begins again.
/// </summary>
internal sealed class Qcow2Rebuild
{
    private const int ChunkShift = 15;
    private const long MaxClusters = 1L << 29;
    private readonly Qcow2Image _image;
    private readonly Qcow2Geometry _geometry;
    private readonly Qcow2Map _map;
    private readonly Qcow2Writer _writer;
    private readonly long _clusters;
    private readonly uint[]?[] _counts;

    public Qcow2Rebuild(Qcow2Image image, Qcow2Map map, Qcow2Writer writer)
    {
        _image = image;
        _geometry = image.Geometry;
        _map = map;
        _writer = writer;
        _clusters = _geometry.ClustersFor(image.File.Length);
        if (_clusters > MaxClusters)
        {
            throw BlockException.Limit("the image has too many clusters to rebuild its counts", _clusters, MaxClusters);
        }

        _counts = new uint[]?[(_clusters >> ChunkShift) + 1];
    }

    /// <summary>Rebuilds.</summary>
    public async ValueTask RunAsync(
        IReadOnlyList<Qcow2Snapshot> snapshots, long snapshotTableBytes, IReadOnlyList<Qcow2Bitmap> bitmaps,
        CancellationToken cancellationToken)
    {
        await _writer.Session.BeginAsync().ConfigureAwait(false);
        Count(0, _geometry.ClusterSize);
        CountRefcounts();
        await CountTreeAsync(_map.L1, cancellationToken).ConfigureAwait(false);
        if (snapshots.Count > 0)
        {
            Count(_image.Header.SnapshotsOffset, snapshotTableBytes);
        }

        if (_image.Header.Encryption is { Length.Value: > 0 } encryption)
        {
            Count((long)encryption.Offset.Value, (long)encryption.Length.Value);
        }

        foreach (Qcow2Snapshot snapshot in snapshots)
        {
            RootTable l1 = await snapshot.ReadL1Async(_image.File, _geometry, cancellationToken)
                .ConfigureAwait(false);
            await CountTreeAsync(l1, cancellationToken).ConfigureAwait(false);
        }

        await CountBitmapsAsync(bitmaps, cancellationToken).ConfigureAwait(false);
        await CorrectCountsAsync().ConfigureAwait(false);
        await CorrectFlagsAsync().ConfigureAwait(false);
        await _writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
        await new Qcow2HeaderWriter(_image.File).WriteIncompatibleAsync(
            _image.Header.Incompatible & ~Qcow2Incompatible.Dirty, CancellationToken.None).ConfigureAwait(false);
        await _image.File.FlushAsync(CancellationToken.None).ConfigureAwait(false);
    }

    private void Count(long offset, long count)
    {
        long first = offset >> _geometry.ClusterBits;
        long last = offset + count - 1 >> _geometry.ClusterBits;
        if (offset < 0 || count < 0 || last >= _clusters)
        {
            throw BlockException.Invalid(
                "a structure lies outside the file, so counts cannot be rebuilt", offset, $"0x{offset:x}+0x{count:x}",
                $"0…0x{_image.File.Length:x}");
        }

        for (long cluster = first; cluster <= last; cluster++)
        {
            uint[] chunk = _counts[cluster >> ChunkShift] ??= new uint[1 << ChunkShift];
            chunk[cluster & (1 << ChunkShift) - 1]++;
        }
    }

    private ulong CountOf(long cluster) =>
        _counts[cluster >> ChunkShift]?[cluster & (1 << ChunkShift) - 1] ?? 0;

    private void CountRefcounts()
    {
        RootTable table = _writer.Refcounts.Table;
        Count(table.Offset, table.Count * 8L);
        for (int i = 0; i < table.Count; i++)
        {
            long block = _writer.Refcounts.BlockOffset(i);
            if (block != 0)
            {
                Count(block, _geometry.ClusterSize);
            }
        }
    }

    private async ValueTask CountTreeAsync(RootTable l1, CancellationToken cancellationToken)
    {
        if (l1.Count == 0)
        {
            return;
        }

        Count(l1.Offset, l1.Count * 8L);
        using BufferLease buffer = BufferPool.Shared.Rent(_geometry.ClusterSize);
        for (int i = 0; i < l1.Count; i++)
        {
            long table = (long)(l1[i] & Qcow2Layout.OffsetMask);
            if (table == 0)
            {
                continue;
            }

            Count(table, _geometry.ClusterSize);
            await _image.File.ReadAsync(table, buffer.Memory, cancellationToken).ConfigureAwait(false);
            CountTable(buffer.Span);
        }
    }

    private void CountTable(ReadOnlySpan<byte> table)
    {
        int size = 1 << _geometry.L2EntryBits;
        for (int at = 0; at < table.Length; at += size)
        {
            var entry = new Qcow2L2Entry(BinaryPrimitives.ReadUInt64BigEndian(table[at..]), 0);
            if (entry.IsCompressed)
            {
                if (entry.TryGetCompressed(_geometry, out long offset, out int length))
                {
                    Count(offset, length);
                }
            }
            else if (entry.HostOffset != 0 && _image.DataFile is null)
            {
                Count(entry.HostOffset, _geometry.ClusterSize);
            }
        }
    }

    private async ValueTask CountBitmapsAsync(IReadOnlyList<Qcow2Bitmap> bitmaps, CancellationToken cancellationToken)
    {
        if (_image.Header.Bitmaps is not { } extension)
        {
            return;
        }

        Count((long)extension.DirectoryOffset.Value, (long)extension.DirectorySize.Value);
        foreach (Qcow2Bitmap bitmap in bitmaps)
        {
            if (bitmap.TableEntries == 0)
            {
                continue;
            }

            Qcow2HeaderChecks.CheckPlace(
                $"the table of bitmap '{bitmap.Name}'", bitmap.TableOffset, bitmap.TableEntries * 8L, _geometry,
                _image.File.Length, bitmap.EntryOffset);
            Count((long)bitmap.TableOffset, bitmap.TableEntries * 8L);
            await CountBitmapDataAsync(bitmap, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask CountBitmapDataAsync(Qcow2Bitmap bitmap, CancellationToken cancellationToken)
    {
        const int Step = 4096;
        using BufferLease buffer = BufferPool.Shared.Rent(Step);
        long end = (long)bitmap.TableOffset + bitmap.TableEntries * 8L;
        for (long at = (long)bitmap.TableOffset; at < end; at += Step)
        {
            Memory<byte> part = buffer.Memory[..(int)Math.Min(Step, end - at)];
            await _image.File.ReadAsync(at, part, cancellationToken).ConfigureAwait(false);
            for (int i = 0; i < part.Length; i += 8)
            {
                long data = (long)(BinaryPrimitives.ReadUInt64BigEndian(part.Span[i..]) & Qcow2Layout.OffsetMask);
                if (data != 0)
                {
                    Count(data, _geometry.ClusterSize);
                }
            }
        }
    }

    private async ValueTask CorrectCountsAsync()
    {
        Qcow2Refcounts refcounts = _writer.Refcounts;
        for (long cluster = 0; cluster < _clusters;)
        {
            long end = Math.Min(_clusters, refcounts.SliceEnd(cluster));
            long key = refcounts.SliceKey(cluster);
            if (key == 0)
            {
                if (!AnyCounted(cluster, end))
                {
                    cluster = end;
                    continue;
                }

                await AddBlockAsync(cluster).ConfigureAwait(false);
                continue;
            }

            await refcounts.Cache.GetAsync(key).ConfigureAwait(false);
            lock (_image.Sync)
            {
                if (refcounts.Cache.Find(key) is not { } slice)
                {
                    continue;
                }

                for (; cluster < end; cluster++)
                {
                    Correct(slice, cluster);
                }
            }

            if (refcounts.Cache.IsCrowded)
            {
                await _writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
            }
        }
    }

    private void Correct(TableSlice slice, long cluster)
    {
        ulong counted = CountOf(cluster);
        if (counted > _geometry.RefcountMax)
        {
            throw BlockException.Invalid(
                "a cluster has more references than its count can hold", cluster << _geometry.ClusterBits, $"{counted}",
                $"at most {_geometry.RefcountMax}");
        }

        if (_writer.Refcounts.Get(slice, cluster) != counted)
        {
            _writer.Refcounts.Set(slice, cluster, counted);
        }
    }

    private bool AnyCounted(long cluster, long end)
    {
        for (; cluster < end; cluster++)
        {
            if (CountOf(cluster) != 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>
    /// Makes a refcount block where one is missing, out of a new cluster behind everything that is counted.
    /// </summary>
    private async ValueTask AddBlockAsync(long cluster)
    {
        while (true)
        {
            Qcow2Need need;
            lock (_image.Sync)
            {
                if (_writer.Refcounts.SliceKey(cluster) != 0)
                {
                    return; // The allocation itself needed it.
                }

                if (_writer.Allocator.TryReserve(1, out Qcow2Allocation got, out need))
                {
                    _writer.Refcounts.Table.Set(
                        _writer.Refcounts.BlockIndex(cluster), (ulong)got.First << _geometry.ClusterBits);
                    _writer.Allocator.Metadata.Add(got.First, 1, out _);
                    return;
                }
            }

            await _writer.Allocator.SatisfyAsync(need, CancellationToken.None).ConfigureAwait(false);
        }
    }

    private async ValueTask CorrectFlagsAsync()
    {
        for (int i = 0; i < _map.L1.Count; i++)
        {
            long table;
            lock (_image.Sync)
            {
                ulong entry = _map.L1[i];
                table = (long)(entry & Qcow2Layout.OffsetMask);
                if (table != 0)
                {
                    ulong correct = Flagged(entry, table);
                    if (correct != entry)
                    {
                        _map.L1.Set(i, correct);
                    }
                }
            }

            for (long key = table; table != 0 && key < table + _geometry.ClusterSize;)
            {
                await _image.L2.GetAsync(key).ConfigureAwait(false);
                lock (_image.Sync)
                {
                    if (_image.L2.Find(key) is { } slice)
                    {
                        CorrectFlags(slice);
                        key += _geometry.SliceSize;
                    }
                }
            }

            if (_writer.Flush.IsCrowded)
            {
                await _writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
            }
        }
    }

    private void CorrectFlags(TableSlice slice)
    {
        bool changed = false;
        for (int index = 0; index < _geometry.SliceEntries; index++)
        {
            Qcow2L2Entry entry = _map.ReadEntry(slice, index);
            if (entry.IsCompressed || entry.HostOffset == 0 || _image.DataFile is not null)
            {
                continue;
            }

            ulong correct = Flagged(entry.Descriptor, entry.HostOffset);
            if (correct != entry.Descriptor)
            {
                slice.BeginChange();
                _map.WriteEntry(slice, index, entry with { Descriptor = correct });
                slice.EndChange();
                changed = true;
            }
        }

        if (changed)
        {
            _image.L2.MarkDirty(slice);
        }
    }

    private ulong Flagged(ulong entry, long offset) =>
        CountOf(offset >> _geometry.ClusterBits) == 1
            ? entry | Qcow2Layout.CopiedFlag
            : entry & ~Qcow2Layout.CopiedFlag;
}
