using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// The mapping side of the check: L1 tables, of the disk and of its snapshots, and the L2 tables that they share.
/// </summary>
/// <remarks>
/// An L2 table that several L1 tables point to counts once for each of them, as do the clusters it points to. It is
/// read once all the same: <see cref="CountTableAsync"/> first counts how often each L2 table is used, and
/// <see cref="WalkTableAsync"/> multiplies. So a hostile image of a million L1 entries that name one table costs one
/// read, and the time of a check is bounded by the size of the file.
/// </remarks>
internal sealed class Qcow2CheckTables(Qcow2CheckContext context, Qcow2CheckRefcounts refcounts)
{
    private const int L1Step = 64 << 10;
    private const ClusterUse Walked = ClusterUse.GuestData;

    /// <summary>How often each L2 table is named by an L1 entry, and marked with a second use once it was walked.</summary>
    private readonly Qcow2CheckCounts _tableUsers = new();

    /// <summary>L1 tables that the first pass found fit for the second.</summary>
    private readonly HashSet<long> _sound = [];
    private long _nextContiguous;

    /// <summary>First pass: counts the clusters of an L1 table and of the L2 tables it names.</summary>
    public async ValueTask CountTableAsync(long offset, long entries, string owner, CancellationToken cancellationToken)
    {
        if (!IsSoundTable(offset, entries, owner)
            || !context.AddReferences(offset, entries * sizeof(ulong), ClusterUse.L1Table))
        {
            return;
        }

        _sound.Add(offset);
        await ForEachEntryAsync(offset, entries, (index, entry, _) =>
        {
            CountEntry(index, entry, owner);
            return default;
        }, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Second pass: walks the L2 tables that were not walked before.</summary>
    /// <param name="offset">Of the L1 table, bytes.</param>
    /// <param name="entries">Of the L1 table.</param>
    /// <param name="isActive">The disk's own table: allocation is tallied and the COPIED flags are verified.</param>
    /// <param name="cancellationToken">Stops the check.</param>
    public async ValueTask WalkAsync(long offset, long entries, bool isActive, CancellationToken cancellationToken)
    {
        if (!_sound.Remove(offset))
        {
            return; // reported in the first pass
        }

        await ForEachEntryAsync(
            offset, entries, (index, entry, token) => WalkEntryAsync(index, entry, isActive, token), cancellationToken)
            .ConfigureAwait(false);
    }

    private bool IsSoundTable(long offset, long entries, string owner)
    {
        if (entries > Qcow2Layout.MaxL1Bytes / sizeof(ulong))
        {
            context.Corrupt($"the L1 table of {owner} has {entries} entries, more than {Qcow2Layout.MaxL1Bytes / sizeof(ulong)}");
            return false;
        }

        if (!context.IsAligned(offset))
        {
            context.Corrupt($"the L1 table of {owner} at 0x{offset:x} is not aligned to a cluster");
            return false;
        }

        return true;
    }

    private async ValueTask ForEachEntryAsync(
        long offset, long entries, Func<long, ulong, CancellationToken, ValueTask> visit,
        CancellationToken cancellationToken)
    {
        using BufferLease buffer = BufferPool.Shared.Rent(L1Step);
        for (long done = 0; done < entries;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            long hole = await context.HoleAtAsync(
                offset + done * sizeof(ulong), (entries - done) * sizeof(ulong), cancellationToken).ConfigureAwait(false);
            done += hole / sizeof(ulong);
            int step = (int)Math.Min(entries - done, L1Step / sizeof(ulong));
            Memory<byte> part = buffer.Memory[..(step * sizeof(ulong))];
            if (!await context.TryReadAsync(offset + done * sizeof(ulong), part, "an L1 table", cancellationToken)
                    .ConfigureAwait(false))
            {
                return;
            }

            for (int i = 0; i < step; i++)
            {
                ulong entry = BinaryPrimitives.ReadUInt64BigEndian(part.Span[(i * sizeof(ulong))..]);
                if (entry != 0)
                {
                    await visit(done + i, entry, cancellationToken).ConfigureAwait(false);
                }
            }

            done += step;
        }
    }

    private void CountEntry(long index, ulong entry, string owner)
    {
        if ((entry & Qcow2Layout.L1Reserved) != 0)
        {
            context.Corrupt($"L1 entry {index} of {owner} has reserved bits set: 0x{entry:x16}");
        }

        long table = (long)(entry & Qcow2Layout.OffsetMask);
        if (table == 0)
        {
            if ((entry & Qcow2Layout.CopiedFlag) != 0)
            {
                context.Corrupt($"L1 entry {index} of {owner} has the COPIED flag and no L2 table: 0x{entry:x16}");
            }

            return;
        }

        bool isInside = context.AddReferences(table, context.Facts.ClusterSize, ClusterUse.L2Table);
        if (!context.IsAligned(table))
        {
            context.Corrupt($"L1 entry {index} of {owner} names an L2 table at 0x{table:x}, not aligned to a cluster");
        }
        else if (isInside)
        {
            _tableUsers.Add(table >> context.Facts.ClusterBits, ClusterUse.L2Table, 1);
        }
    }

    private async ValueTask WalkEntryAsync(long index, ulong entry, bool isActive, CancellationToken cancellationToken)
    {
        long table = (long)(entry & Qcow2Layout.OffsetMask);
        long cluster = table >> context.Facts.ClusterBits;
        long users = table == 0 || !context.IsAligned(table) ? 0 : _tableUsers.Count(cluster);
        if (users == 0)
        {
            return;
        }

        if (isActive)
        {
            await refcounts.VerifyCopiedAsync(
                table, (entry & Qcow2Layout.CopiedFlag) != 0, $"L1 entry {index}", cancellationToken).ConfigureAwait(false);
        }

        if ((_tableUsers.Use(cluster) & Walked) == 0)
        {
            _tableUsers.Add(cluster, Walked, 0);
            await WalkTableAsync(table, index, users, isActive, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask WalkTableAsync(
        long table, long l1Index, long users, bool isActive, CancellationToken cancellationToken)
    {
        long size = context.Facts.ClusterSize;
        if (await context.HoleAtAsync(table, size, cancellationToken).ConfigureAwait(false) == size)
        {
            return;
        }

        using BufferLease buffer = BufferPool.Shared.Rent(context.Facts.ClusterSize);
        if (!await context.TryReadAsync(table, buffer.Memory, "an L2 table", cancellationToken).ConfigureAwait(false))
        {
            return;
        }

        _nextContiguous = 0;
        int entrySize = context.Facts.L2EntrySize;
        int entries = context.Facts.ClusterSize / entrySize;
        for (int i = 0; i < entries; i++)
        {
            ReadOnlySpan<byte> stored = buffer.Span[(i * entrySize)..];
            ulong entry = BinaryPrimitives.ReadUInt64BigEndian(stored);
            ulong bitmap = entrySize == 16 ? BinaryPrimitives.ReadUInt64BigEndian(stored[8..]) : 0;
            if ((entry | bitmap) == 0)
            {
                continue;
            }

            long guest = (l1Index * entries + i) << context.Facts.ClusterBits;
            if ((entry & Qcow2Layout.CompressedFlag) != 0)
            {
                VisitCompressed(entry, bitmap, guest, users, isActive);
            }
            else
            {
                await VisitStandardAsync(entry, bitmap, guest, users, isActive, cancellationToken)
                    .ConfigureAwait(false);
            }
        }
    }

    private void VisitCompressed(ulong entry, ulong bitmap, long guest, long users, bool isActive)
    {
        if ((entry & Qcow2Layout.CopiedFlag) != 0)
        {
            context.Corrupt($"guest 0x{guest:x}: a compressed cluster has the COPIED flag: 0x{entry:x16}", users);
        }

        if (context.Facts.HasDataFile)
        {
            context.Corrupt($"guest 0x{guest:x}: a compressed cluster in an image with a data file", users);
            return;
        }

        if (bitmap != 0)
        {
            context.Corrupt($"guest 0x{guest:x}: a compressed cluster has subclusters: 0x{bitmap:x16}", users);
            return;
        }

        int sizeBits = context.Facts.ClusterBits - 8;
        int offsetBits = 62 - sizeBits;
        long offset = (long)(entry & (1UL << offsetBits) - 1);
        long sectors = (long)(entry >> offsetBits & (1UL << sizeBits) - 1) + 1;
        context.AddReferences(offset, sectors * 512 - (offset & 511), ClusterUse.CompressedData, users);
        if (isActive)
        {
            // A compressed cluster never continues its predecessor on the host: all count as fragmented.
            context.Report.AllocatedClusters++;
            context.Report.CompressedClusters++;
            context.Report.FragmentedClusters++;
        }
    }

    private async ValueTask VisitStandardAsync(
        ulong entry, ulong bitmap, long guest, long users, bool isActive, CancellationToken cancellationToken)
    {
        // "All zeroes" came with version 3, and subclusters have bits of their own for it.
        bool noZeroFlag = context.Facts.ExtendedL2 || context.Facts.Version < 3;
        ulong reserved = noZeroFlag ? Qcow2Layout.L2Reserved | Qcow2Layout.ZeroFlag : Qcow2Layout.L2Reserved;
        if ((entry & reserved) != 0)
        {
            context.Corrupt($"guest 0x{guest:x}: the L2 entry has reserved bits set: 0x{entry:x16}", users);
        }

        long offset = (long)(entry & Qcow2Layout.OffsetMask);
        if (!IsAllocated(entry))
        {
            if ((uint)bitmap != 0)
            {
                context.Corrupt($"guest 0x{guest:x}: subclusters allocated in a cluster that is not", users);
            }

            return;
        }

        if ((bitmap >> 32 & (uint)bitmap) != 0)
        {
            context.Corrupt($"guest 0x{guest:x}: a subcluster is both allocated and zero: 0x{bitmap:x16}", users);
        }

        if (!context.IsAligned(offset))
        {
            context.Corrupt($"guest 0x{guest:x}: the cluster at 0x{offset:x} is not aligned", users);
        }

        if (isActive)
        {
            Tally(offset);
        }

        if (context.Facts.HasDataFile)
        {
            VisitExternal(entry, offset, guest, users);
            return;
        }

        if (context.AddReferences(offset, context.Facts.ClusterSize, ClusterUse.GuestData, users) && isActive)
        {
            await refcounts.VerifyCopiedAsync(
                offset, (entry & Qcow2Layout.CopiedFlag) != 0, $"guest 0x{guest:x}", cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Offset 0 means no cluster, except in a data file, where COPIED tells the two apart (not for zeroes).</summary>
    private bool IsAllocated(ulong entry) =>
        (entry & Qcow2Layout.OffsetMask) != 0
        || (context.Facts.HasDataFile && (entry & Qcow2Layout.CopiedFlag) != 0
            && (context.Facts.ExtendedL2 || (entry & Qcow2Layout.ZeroFlag) == 0));

    private void Tally(long offset)
    {
        context.Report.AllocatedClusters++;
        if (_nextContiguous != 0 && offset != _nextContiguous)
        {
            context.Report.FragmentedClusters++;
        }

        _nextContiguous = offset + context.Facts.ClusterSize;
    }

    private void VisitExternal(ulong entry, long offset, long guest, long users)
    {
        if ((entry & Qcow2Layout.CopiedFlag) == 0)
        {
            context.Corrupt($"guest 0x{guest:x}: a cluster of the data file lacks the COPIED flag", users);
        }

        if (context.Facts.DataFileIsRaw && offset != guest)
        {
            context.Corrupt($"guest 0x{guest:x}: stored at 0x{offset:x} of a data file that is to be raw", users);
        }
    }
}
