using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// The other side of the check: what the image says its reference counts are, compared with what was counted.
/// </summary>
/// <remarks>Refcount blocks are read in slices of 4 KiB, of which a fixed number is kept: 4 MiB in all.</remarks>
internal sealed class Qcow2CheckRefcounts(Qcow2CheckContext context)
{
    private const int MaxSliceSize = 4096;
    private const int Slices = 1024;

    private readonly long[] _sliceOffsets = NewSliceOffsets();
    private readonly byte[]?[] _slices = new byte[Slices][];
    private readonly int _sliceSize = Math.Min(MaxSliceSize, context.Facts.ClusterSize);
    private readonly int _blockShift = context.Facts.ClusterBits + 3 - context.Facts.RefcountOrder;
    private long[] _blocks = [];

    /// <summary>One more than the highest cluster that is referenced or has a reference count.</summary>
    public long End { get; private set; }

    /// <summary>Reads the refcount table and counts it and its blocks as used.</summary>
    public async ValueTask LoadAsync(CancellationToken cancellationToken)
    {
        long offset = context.Facts.RefcountTableOffset;
        long size = context.Facts.RefcountTableClusters << context.Facts.ClusterBits;
        if (size > Qcow2Layout.MaxRefcountTableBytes || !context.IsAligned(offset))
        {
            context.Corrupt($"the refcount table at 0x{offset:x} ({size} bytes) is not aligned or too large");
            return;
        }

        if (!context.AddReferences(offset, size, ClusterUse.RefcountTable))
        {
            return;
        }

        byte[] table = new byte[size];
        if (!await context.TryReadAsync(offset, table, "the refcount table", cancellationToken).ConfigureAwait(false))
        {
            return;
        }

        _blocks = new long[size / sizeof(ulong)];
        for (int i = 0; i < _blocks.Length; i++)
        {
            _blocks[i] = CheckTableEntry(i, BinaryPrimitives.ReadUInt64BigEndian(table.AsSpan(i * sizeof(ulong))));
        }
    }

    /// <summary>Reports an entry whose COPIED flag disagrees with the stored reference count of what it points to.</summary>
    public async ValueTask VerifyCopiedAsync(long offset, bool copied, string what, CancellationToken cancellationToken)
    {
        long stored = await StoredAsync(offset >> context.Facts.ClusterBits, cancellationToken).ConfigureAwait(false);
        if (stored >= 0 && stored == 1 != copied)
        {
            context.Corrupt(
                $"{what}: the COPIED flag is {(copied ? "set" : "not set")}, the refcount of 0x{offset:x} is {stored}");
        }
    }

    /// <summary>Compares stored counts with the references that were counted; the last step of a check.</summary>
    public async ValueTask CompareAsync(CancellationToken cancellationToken)
    {
        foreach (long cluster in context.Counts.Referenced())
        {
            long stored = await StoredAsync(cluster, cancellationToken).ConfigureAwait(false);
            Judge(cluster, stored);
        }

        End = Math.Max(End, context.Counts.End);
        await FindLeaksAsync(cancellationToken).ConfigureAwait(false);
    }

    private static long[] NewSliceOffsets()
    {
        long[] offsets = new long[Slices];
        Array.Fill(offsets, -1);
        return offsets;
    }

    /// <summary>The offset of a refcount block, 0 for none, -1 for one that cannot be used.</summary>
    private long CheckTableEntry(int index, ulong entry)
    {
        if (entry == 0)
        {
            return 0;
        }

        long offset = (long)(entry & Qcow2Layout.RefcountOffsetMask);
        if ((entry & ~Qcow2Layout.RefcountOffsetMask) != 0)
        {
            context.Corrupt($"refcount table entry {index} has reserved bits set: 0x{entry:x16}");
        }
        else if (!context.IsAligned(offset))
        {
            context.Corrupt($"refcount table entry {index} is not aligned to a cluster: 0x{entry:x16}");
            return -1;
        }

        if (offset < 0 || offset >> context.Facts.ClusterBits >= context.FileClusters)
        {
            context.Corrupt($"refcount block {index} at 0x{offset:x} is outside the file (0x{context.FileLength:x})");
            return -1;
        }

        return context.AddReferences(offset, context.Facts.ClusterSize, ClusterUse.RefcountBlock) ? offset : -1;
    }

    /// <summary>The reference count in the image; -1 where it cannot be read.</summary>
    private ValueTask<long> StoredAsync(long cluster, CancellationToken cancellationToken)
    {
        long index = cluster >> _blockShift;
        long block = index < _blocks.Length ? _blocks[index] : 0;
        if (block <= 0)
        {
            return new(block);
        }

        long inBlock = cluster & (1L << _blockShift) - 1;
        long bit = inBlock << context.Facts.RefcountOrder;
        long sliceOffset = block + (bit >> 3 & -_sliceSize);
        int slot = (int)(sliceOffset / _sliceSize % Slices);
        return _sliceOffsets[slot] == sliceOffset
            ? new(Extract(_slices[slot], bit & _sliceSize * 8 - 1))
            : LoadSliceAsync(sliceOffset, slot, bit & _sliceSize * 8 - 1, cancellationToken);
    }

    private async ValueTask<long> LoadSliceAsync(
        long sliceOffset, int slot, long bit, CancellationToken cancellationToken)
    {
        byte[] slice = _slices[slot] ??= new byte[_sliceSize];
        _sliceOffsets[slot] = -1;
        if (!await context.TryReadAsync(sliceOffset, slice, "a refcount block", cancellationToken).ConfigureAwait(false))
        {
            return -1;
        }

        _sliceOffsets[slot] = sliceOffset;
        return Extract(slice, bit);
    }

    private long Extract(ReadOnlySpan<byte> bytes, long bit)
    {
        int at = (int)(bit >> 3);
        return context.Facts.RefcountOrder switch
        {
            <= 2 => bytes[at] >> (int)(bit & 7) & (1 << (1 << context.Facts.RefcountOrder)) - 1,
            3 => bytes[at],
            4 => BinaryPrimitives.ReadUInt16BigEndian(bytes[at..]),
            5 => BinaryPrimitives.ReadUInt32BigEndian(bytes[at..]),
            _ => (long)Math.Min(BinaryPrimitives.ReadUInt64BigEndian(bytes[at..]), long.MaxValue),
        };
    }

    private void Judge(long cluster, long stored)
    {
        long counted = context.Counts.Count(cluster);
        ClusterUse use = context.Counts.Use(cluster);
        string place = $"cluster {cluster} at 0x{cluster << context.Facts.ClusterBits:x} ({Qcow2CheckContext.Name(use)})";
        if (stored < 0)
        {
            context.Report.Error($"{place}: its refcount cannot be read");
        }
        else if (stored < counted)
        {
            context.Corrupt($"{place}: refcount {stored}, references {counted}");
        }
        else if (IsConflict(use, counted))
        {
            context.Corrupt($"{place}: used for more than one thing, references {counted}");
        }
        else if (stored > counted)
        {
            context.Report.Leak($"{place}: refcount {stored}, references {counted}");
        }
    }

    /// <summary>Metadata shares its cluster with nothing; only L2 tables and guest data may have several users.</summary>
    private static bool IsConflict(ClusterUse use, long counted)
    {
        const ClusterUse Shareable = ClusterUse.L2Table | ClusterUse.GuestData | ClusterUse.CompressedData;
        const ClusterUse Payload = ClusterUse.GuestData | ClusterUse.CompressedData;
        bool isSingle = (use & use - 1) == 0;
        return isSingle ? counted > 1 && (use & Shareable) == 0 : (use & ~Payload) != 0;
    }

    /// <summary>Looks through all refcount blocks for clusters that have a count and no reference.</summary>
    private async ValueTask FindLeaksAsync(CancellationToken cancellationToken)
    {
        long clusters = Math.Max(context.FileClusters, context.Counts.End);
        int sliceClusters = _sliceSize * 8 >> context.Facts.RefcountOrder;
        long blockClusters = 1L << _blockShift;
        var seen = new HashSet<long>();
        for (int i = 0; i < _blocks.Length && (long)i << _blockShift < clusters; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (_blocks[i] <= 0 || !seen.Add(_blocks[i]))
            {
                continue; // a block that is used twice has been reported; its second reading would say nothing
            }

            if (await context.HoleAtAsync(_blocks[i], context.Facts.ClusterSize, cancellationToken)
                    .ConfigureAwait(false) == context.Facts.ClusterSize)
            {
                continue;
            }

            long first = (long)i << _blockShift;
            long end = Math.Min(first + blockClusters, clusters);
            for (long at = first; at < end; at += sliceClusters)
            {
                await FindLeaksAsync(at, Math.Min(at + sliceClusters, end), cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private async ValueTask FindLeaksAsync(long first, long end, CancellationToken cancellationToken)
    {
        // The first count brings the slice in; most slices of a sparse file's blocks hold nothing.
        long stored0 = await StoredAsync(first, cancellationToken).ConfigureAwait(false);
        long block = _blocks[first >> _blockShift];
        long sliceOffset = block + ((first & (1L << _blockShift) - 1) << context.Facts.RefcountOrder >> 3 & -_sliceSize);
        int slot = (int)(sliceOffset / _sliceSize % Slices);
        if (stored0 < 0 || !_slices[slot].AsSpan().ContainsAnyExcept((byte)0))
        {
            return;
        }

        for (long cluster = first; cluster < end; cluster++)
        {
            long stored = await StoredAsync(cluster, cancellationToken).ConfigureAwait(false);
            if (stored > 0 && context.Counts.Count(cluster) == 0)
            {
                context.Report.Leak(
                    $"cluster {cluster} at 0x{cluster << context.Facts.ClusterBits:x}: refcount {stored}, not referenced");
                End = Math.Max(End, cluster + 1);
            }
        }
    }
}
