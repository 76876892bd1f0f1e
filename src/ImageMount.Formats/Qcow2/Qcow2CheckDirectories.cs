using System.Buffers.Binary;
using System.Text;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Qcow2;

/// <summary>A snapshot as the check sees it: whose L1 table is where.</summary>
internal readonly record struct CheckedSnapshot(string Name, long L1Offset, long L1Entries);

/// <summary>The lists of the image that name further tables: the snapshot table and the bitmap directory.</summary>
internal sealed class Qcow2CheckDirectories(Qcow2CheckContext context)
{
    private const int SnapshotExtraV3 = 16;
    private const long MaxBitmapTableEntries = 1L << 26;
    private const int Step = 64 << 10;

    /// <summary>Reads the snapshot table and counts it as used.</summary>
    public async ValueTask<List<CheckedSnapshot>> ReadSnapshotsAsync(CancellationToken cancellationToken)
    {
        var snapshots = new List<CheckedSnapshot>();
        long start = context.Facts.SnapshotsOffset;
        if (context.Facts.SnapshotCount == 0)
        {
            return snapshots;
        }

        if (context.Facts.HasDataFile)
        {
            context.Corrupt($"{context.Facts.SnapshotCount} snapshots in an image with a data file");
        }

        if (context.Facts.SnapshotCount > Qcow2Layout.MaxSnapshots || !context.IsAligned(start))
        {
            context.Corrupt($"the snapshot table at 0x{start:x} is not aligned, or {context.Facts.SnapshotCount} are too many");
            return snapshots;
        }

        long at = start;
        byte[] header = new byte[Qcow2Layout.SnapshotEntry];
        for (long i = 0; i < context.Facts.SnapshotCount; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (at - start > Qcow2Layout.MaxSnapshotTableBytes || at >= context.FileLength)
            {
                context.Corrupt($"the snapshot table ends after {i} of {context.Facts.SnapshotCount} snapshots");
                break;
            }

            if (!await context.TryReadAsync(at, header, "the snapshot table", cancellationToken).ConfigureAwait(false))
            {
                break;
            }

            at = await ReadSnapshotAsync(snapshots, at, header, cancellationToken).ConfigureAwait(false);
        }

        context.AddReferences(start, at - start, ClusterUse.SnapshotTable);
        return snapshots;
    }

    /// <summary>Counts the clusters of all persistent bitmaps.</summary>
    public async ValueTask CheckBitmapsAsync(CancellationToken cancellationToken)
    {
        long offset = context.Facts.BitmapDirectoryOffset;
        long size = context.Facts.BitmapDirectorySize;
        if (context.Facts.BitmapCount == 0)
        {
            return;
        }

        if (context.Facts.BitmapCount > Qcow2Layout.MaxBitmaps || size > Qcow2Layout.MaxBitmapDirectoryBytes || size <= 0 || !context.IsAligned(offset))
        {
            context.Corrupt($"the bitmap directory at 0x{offset:x} ({size} bytes) is not aligned or too large");
            return;
        }

        if (!context.AddReferences(offset, size, ClusterUse.BitmapDirectory))
        {
            return;
        }

        byte[] directory = new byte[size];
        if (!await context.TryReadAsync(offset, directory, "the bitmap directory", cancellationToken).ConfigureAwait(false))
        {
            return;
        }

        int at = 0;
        long found = 0;
        while (at <= size - Qcow2Layout.BitmapEntry)
        {
            int length = EntryLength(directory.AsSpan(at));
            if (length > size - at)
            {
                break;
            }

            await CheckBitmapAsync(directory.AsMemory(at, length), cancellationToken).ConfigureAwait(false);
            at += length;
            found++;
        }

        if (at != size || found != context.Facts.BitmapCount)
        {
            context.Corrupt($"the bitmap directory holds {found} bitmaps in {at} bytes, "
                + $"the header says {context.Facts.BitmapCount} in {size}");
        }
    }

    private async ValueTask<long> ReadSnapshotAsync(
        List<CheckedSnapshot> snapshots, long at, byte[] header, CancellationToken cancellationToken)
    {
        long l1Offset = BinaryPrimitives.ReadInt64BigEndian(header);
        long l1Entries = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(8));
        int idLength = BinaryPrimitives.ReadUInt16BigEndian(header.AsSpan(12));
        int nameLength = BinaryPrimitives.ReadUInt16BigEndian(header.AsSpan(14));
        long extra = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(36));
        long nameAt = at + Qcow2Layout.SnapshotEntry + extra + idLength;
        string name = $"at 0x{at:x}";
        byte[] nameBytes = new byte[nameLength];
        if (await context.TryReadAsync(nameAt, nameBytes, "a snapshot's name", cancellationToken).ConfigureAwait(false))
        {
            name = $"'{Encoding.UTF8.GetString(nameBytes)}'";
        }

        if (extra > Qcow2Layout.MaxSnapshotExtraData)
        {
            context.Corrupt($"snapshot {name} has {extra} bytes of extra data, more than {Qcow2Layout.MaxSnapshotExtraData}");
        }
        else if (context.Facts.Version >= 3 && extra < SnapshotExtraV3)
        {
            context.Corrupt($"snapshot {name} has {extra} bytes of extra data; version 3 wants {SnapshotExtraV3}");
        }

        snapshots.Add(new CheckedSnapshot("snapshot " + name, l1Offset, l1Entries));
        return nameAt + nameLength + 7 & -8;
    }

    private static int EntryLength(ReadOnlySpan<byte> entry)
    {
        int nameLength = BinaryPrimitives.ReadUInt16BigEndian(entry[18..]);
        long extra = BinaryPrimitives.ReadUInt32BigEndian(entry[20..]);
        long length = Qcow2Layout.BitmapEntry + extra + nameLength + 7 & -8;
        return (int)Math.Min(length, int.MaxValue);
    }

    private async ValueTask CheckBitmapAsync(ReadOnlyMemory<byte> entry, CancellationToken cancellationToken)
    {
        long table = BinaryPrimitives.ReadInt64BigEndian(entry.Span);
        long entries = BinaryPrimitives.ReadUInt32BigEndian(entry.Span[8..]);
        if (entries > MaxBitmapTableEntries || !context.IsAligned(table) || table <= 0)
        {
            context.Corrupt($"a bitmap table at 0x{table:x} with {entries} entries is not aligned or too large");
            return;
        }

        if (!context.AddReferences(table, entries * sizeof(ulong), ClusterUse.BitmapTable))
        {
            return;
        }

        using BufferLease buffer = BufferPool.Shared.Rent(Step);
        for (long done = 0; done < entries; done += Step / sizeof(ulong))
        {
            cancellationToken.ThrowIfCancellationRequested();
            int step = (int)Math.Min(entries - done, Step / sizeof(ulong));
            Memory<byte> part = buffer.Memory[..(step * sizeof(ulong))];
            if (!await context.TryReadAsync(
                    table + done * sizeof(ulong), part, "a bitmap table", cancellationToken).ConfigureAwait(false))
            {
                return;
            }

            for (int i = 0; i < step; i++)
            {
                CheckBitmapEntry(BinaryPrimitives.ReadUInt64BigEndian(part.Span[(i * sizeof(ulong))..]));
            }
        }
    }

    private void CheckBitmapEntry(ulong entry)
    {
        long offset = (long)(entry & Qcow2Layout.OffsetMask);
        ulong reserved = entry & ~Qcow2Layout.OffsetMask;
        if (offset == 0)
        {
            reserved &= ~1UL; // without a cluster, bit 0 says that all bits are ones
        }

        if (reserved != 0 || !context.IsAligned(offset))
        {
            context.Corrupt($"a bitmap table entry has reserved bits set or is not aligned: 0x{entry:x16}");
        }
        else if (offset != 0)
        {
            context.AddReferences(offset, context.Facts.ClusterSize, ClusterUse.BitmapData);
        }
    }
}
