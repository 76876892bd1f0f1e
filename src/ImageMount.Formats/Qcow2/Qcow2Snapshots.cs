using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>An internal snapshot: what people see of it, and where its L1 table is.</summary>
/// <param name="Info">For people.</param>
/// <param name="L1Offset">Host offset of its L1 table; not checked yet.</param>
/// <param name="L1Entries">Entries of it; not checked yet.</param>
/// <param name="EntryOffset">Host offset of its entry in the snapshot table, for messages.</param>
internal sealed record Qcow2Snapshot(SnapshotInfo Info, ulong L1Offset, uint L1Entries, long EntryOffset)
{
    /// <summary>Reads its L1 table, after checking where it is.</summary>
    public async ValueTask<RootTable> ReadL1Async(
        BlockNode file, Qcow2Geometry geometry, CancellationToken cancellationToken)
    {
        if (L1Entries > Qcow2Layout.MaxL1Bytes / 8)
        {
            throw BlockException.Limit(
                $"the L1 table of snapshot '{Info.Name}' is too large (entries)", L1Entries, Qcow2Layout.MaxL1Bytes / 8,
                EntryOffset + 8);
        }

        if (geometry.L1EntriesFor(Info.DiskSize) > L1Entries)
        {
            throw BlockException.Invalid(
                $"the L1 table of snapshot '{Info.Name}' is too small for its disk", EntryOffset + 8, $"{L1Entries}",
                $"at least {geometry.L1EntriesFor(Info.DiskSize)}");
        }

        if (L1Entries != 0)
        {
            Qcow2HeaderChecks.CheckPlace(
                $"the L1 table of snapshot '{Info.Name}'", L1Offset, L1Entries * 8L, geometry, file.Length,
                EntryOffset);
        }

        return await RootTable.ReadAsync(
            file, (long)L1Offset, (int)L1Entries, WordOrder.BigEndian, cancellationToken).ConfigureAwait(false);
    }
}

/// <summary>Reads the snapshot table ("Snapshots").</summary>
internal static class Qcow2Snapshots
{
    /// <summary>All snapshots in the order of the table, and the bytes that the table takes.</summary>
    public static async ValueTask<(List<Qcow2Snapshot> Snapshots, long TableBytes)> ReadAsync(
        BlockNode file, Qcow2Header header, CancellationToken cancellationToken)
    {
        var snapshots = new List<Qcow2Snapshot>();
        long at = header.SnapshotsOffset;
        const int MaxVariable = Qcow2Layout.MaxSnapshotExtraData + 2 * ushort.MaxValue;
        using BufferLease buffer = BufferPool.Shared.Rent(MaxVariable);
        for (int i = 0; i < header.SnapshotCount; i++)
        {
            Memory<byte> head = buffer.Memory[..Qcow2Layout.SnapshotEntry];
            await ReadInsideAsync(file, at, head, cancellationToken).ConfigureAwait(false);
            Qcow2SnapshotEntry entry = MemoryMarshal.Read<Qcow2SnapshotEntry>(head.Span);
            if (entry.ExtraDataSize > Qcow2Layout.MaxSnapshotExtraData)
            {
                throw BlockException.Limit(
                    "a snapshot has too much extra data (bytes)", entry.ExtraDataSize.Value,
                    Qcow2Layout.MaxSnapshotExtraData, at + 36);
            }

            int count = (int)entry.ExtraDataSize.Value + entry.IdSize + entry.NameSize;
            Memory<byte> rest = buffer.Memory[..count];
            await ReadInsideAsync(file, at + Qcow2Layout.SnapshotEntry, rest, cancellationToken).ConfigureAwait(false);
            snapshots.Add(Parse(header, entry, rest.Span, at));
            at += Qcow2Layout.SnapshotEntry + count + 7 & -8;
            if (at - header.SnapshotsOffset > Qcow2Layout.MaxSnapshotTableBytes)
            {
                throw BlockException.Limit(
                    "the snapshot table is too large (bytes)", at - header.SnapshotsOffset,
                    Qcow2Layout.MaxSnapshotTableBytes, header.SnapshotsOffset);
            }
        }

        return (snapshots, at - header.SnapshotsOffset);
    }

    private static Qcow2Snapshot Parse(
        Qcow2Header header, in Qcow2SnapshotEntry entry, ReadOnlySpan<byte> rest, long at)
    {
        ReadOnlySpan<byte> extra = rest[..(int)entry.ExtraDataSize.Value];
        ulong vmState = extra.Length >= 8 ? BinaryPrimitives.ReadUInt64BigEndian(extra) : entry.VmStateSize;
        ulong diskSize = extra.Length >= 16 ? BinaryPrimitives.ReadUInt64BigEndian(extra[8..]) : (ulong)header.Size;
        ulong instructions = extra.Length >= 24 ? BinaryPrimitives.ReadUInt64BigEndian(extra[16..]) : ulong.MaxValue;
        if (diskSize > long.MaxValue || vmState > long.MaxValue
            || header.Geometry.L1EntriesFor((long)diskSize) > Qcow2Layout.MaxL1Bytes / 8)
        {
            throw BlockException.Invalid(
                "the disk size of a snapshot is out of range", at + 48, $"0x{diskSize:x}",
                "a size that L1 tables allow");
        }

        rest = rest[extra.Length..];
        string id = Encoding.UTF8.GetString(rest[..entry.IdSize.Value]);
        string name = Encoding.UTF8.GetString(rest.Slice(entry.IdSize.Value, entry.NameSize.Value));
        uint nanoseconds = Math.Min(entry.DateNanoseconds, 999_999_999);
        DateTimeOffset date = DateTimeOffset.FromUnixTimeSeconds(entry.DateSeconds).AddTicks(nanoseconds / 100);
        var info = new SnapshotInfo(
            id, name, (long)diskSize, (long)vmState, date, entry.VmClockNanoseconds,
            instructions == ulong.MaxValue ? null : instructions);
        return new Qcow2Snapshot(info, entry.L1TableOffset, entry.L1Size, at);
    }

    private static async ValueTask ReadInsideAsync(
        BlockNode file, long offset, Memory<byte> bytes, CancellationToken cancellationToken)
    {
        if (offset > file.Length - bytes.Length)
        {
            throw BlockException.Invalid(
                "the snapshot table lies outside the file", offset, $"0x{offset:x}+0x{bytes.Length:x}",
                $"0…0x{file.Length:x}");
        }

        await file.ReadAsync(offset, bytes, cancellationToken).ConfigureAwait(false);
    }
}
