using System.Globalization;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vhdx;

/// <summary>What the metadata region says of the disk (2.6), validated.</summary>
internal sealed record VhdxMetadata
{
    /// <summary>Sizes that do not change.</summary>
    public required VhdxGeometry Geometry { get; init; }

    /// <summary>True for a fixed disk: its blocks stay allocated.</summary>
    public bool LeaveBlocksAllocated { get; init; }

    /// <summary>Size of the disk, bytes.</summary>
    public long DiskSize { get; init; }

    /// <summary>Place in the file of the item with the size, bytes.</summary>
    public long DiskSizePlace { get; init; }

    /// <summary>Identity of the disk; parents and children share it.</summary>
    public Guid DiskId { get; init; }

    /// <summary>Physical sector size, bytes.</summary>
    public int PhysicalSectorSize { get; init; }

    /// <summary>How to find the parent; null when there is none.</summary>
    public VhdxParentLocator? Parent { get; init; }

    /// <summary>Reads and validates the region.</summary>
    public static async ValueTask<VhdxMetadata> ReadAsync(
        BlockNode file, VhdxRegion region, CancellationToken cancellationToken)
    {
        using BufferLease bytes = BufferPool.Shared.Rent(VhdxLayout.MetadataTableSize);
        await file.ReadAsync(region.Offset, bytes.Memory, cancellationToken).ConfigureAwait(false);
        Dictionary<Guid, Item> items = ParseTable(bytes.Span, region);
        var reader = new ItemReader(file, items, cancellationToken);
        byte[] parameters = await reader.ReadAsync(VhdxLayout.FileParametersItem, "file parameters", 8)
            .ConfigureAwait(false);
        uint blockSize = MemoryMarshal.Read<Le32>(parameters);
        uint flags = MemoryMarshal.Read<Le32>(parameters.AsSpan(4));
        ulong size = MemoryMarshal.Read<Le64>(
            await reader.ReadAsync(VhdxLayout.DiskSizeItem, "size of the disk", 8).ConfigureAwait(false));
        Guid id = MemoryMarshal.Read<VhdxGuid>(
            await reader.ReadAsync(VhdxLayout.DiskIdItem, "identity of the disk", 16).ConfigureAwait(false));
        uint logical = MemoryMarshal.Read<Le32>(
            await reader.ReadAsync(VhdxLayout.LogicalSectorItem, "logical sector size", 4).ConfigureAwait(false));
        uint physical = MemoryMarshal.Read<Le32>(
            await reader.ReadAsync(VhdxLayout.PhysicalSectorItem, "physical sector size", 4).ConfigureAwait(false));
        long Place(Guid item) => items[item].Offset;
        CheckSectors(logical, Place(VhdxLayout.LogicalSectorItem));
        CheckSectors(physical, Place(VhdxLayout.PhysicalSectorItem));
        if (blockSize is < VhdxLayout.MinBlockSize or > VhdxLayout.MaxBlockSize || (blockSize & (blockSize - 1)) != 0)
        {
            throw BlockException.Invalid(
                "the block size is not allowed", Place(VhdxLayout.FileParametersItem), Text(blockSize),
                "a power of two, 1 MiB … 256 MiB");
        }

        if (size > (ulong)VhdxLayout.MaxDiskSize || size % logical != 0)
        {
            throw BlockException.Invalid(
                "the size of the disk is not allowed", Place(VhdxLayout.DiskSizeItem), Text(size),
                $"a multiple of {logical} up to 64 TiB");
        }

        bool hasParent = (flags & 2) != 0;
        return new VhdxMetadata
        {
            Geometry = new VhdxGeometry((int)blockSize, (int)logical, hasParent),
            LeaveBlocksAllocated = (flags & 1) != 0 && !hasParent,
            DiskSize = (long)size,
            DiskSizePlace = Place(VhdxLayout.DiskSizeItem),
            DiskId = id,
            PhysicalSectorSize = (int)physical,
            Parent = !hasParent ? null : VhdxParentLocator.Parse(
                await reader.ReadAsync(VhdxLayout.ParentLocatorItem, "parent locator", -1).ConfigureAwait(false),
                Place(VhdxLayout.ParentLocatorItem)),
        };
    }

    private static void CheckSectors(uint size, long at)
    {
        if (size is not (512 or 4096))
        {
            throw BlockException.Invalid("the sector size is not allowed", at, Text(size), "512 or 4096");
        }
    }

    private static string Text(ulong value) => value.ToString(CultureInfo.InvariantCulture);

    private static Dictionary<Guid, Item> ParseTable(ReadOnlySpan<byte> table, VhdxRegion region)
    {
        var reader = new SpanReader(table);
        if (!reader.TryRead(out VhdxRawMetadataHeader head) || head.Signature != VhdxLayout.MetadataSignature)
        {
            throw BlockException.Invalid("the metadata table is damaged", region.Offset);
        }

        if (head.EntryCount > VhdxLayout.MaxTableEntries)
        {
            throw BlockException.Limit(
                "the metadata table has too many entries", head.EntryCount, VhdxLayout.MaxTableEntries,
                region.Offset + 10);
        }

        var known = new Dictionary<Guid, Item>();
        var places = new List<(long Start, long End)>();
        var seen = new HashSet<(Guid, bool)>();
        for (int i = 0; i < head.EntryCount; i++)
        {
            long at = region.Offset + reader.Position;
            reader.TryRead(out VhdxRawMetadataEntry raw); // 2047 entries fit: checked with the head.
            var item = new Item(region.Offset + raw.Offset, (int)Math.Min(raw.Length, int.MaxValue));
            bool isUser = (raw.Flags & VhdxRawMetadataEntry.IsUser) != 0;
            if (!seen.Add((raw.ItemId, isUser)))
            {
                throw BlockException.Invalid($"the metadata item {raw.ItemId.Value:B} is there twice", at);
            }

            if (raw.Length > VhdxLayout.MaxMetadataItem
                || (raw.Length == 0 ? raw.Offset != 0
                    : raw.Offset < VhdxLayout.MetadataTableSize || raw.Offset + (long)raw.Length > region.Length))
            {
                throw BlockException.Invalid(
                    $"the metadata item {raw.ItemId.Value:B} has an impossible place", at + 16,
                    $"0x{raw.Offset.Value:x}+0x{raw.Length.Value:x}", $"0x10000…0x{region.Length:x}");
            }

            if (raw.Length > 0)
            {
                places.Add((item.Offset, item.Offset + item.Length));
            }

            if (!isUser && IsKnown(raw.ItemId))
            {
                known.Add(raw.ItemId, item);
            }
            else if ((raw.Flags & VhdxRawMetadataEntry.IsRequired) != 0)
            {
                throw BlockException.Unsupported(
                    $"the file needs a metadata item that is not known: {raw.ItemId.Value:B}");
            }
        }

        places.Sort();
        for (int i = 1; i < places.Count; i++)
        {
            if (places[i].Start < places[i - 1].End)
            {
                throw BlockException.Invalid("metadata items overlap", places[i].Start);
            }
        }

        return known;
    }

    private static bool IsKnown(Guid id) =>
        id == VhdxLayout.FileParametersItem || id == VhdxLayout.DiskSizeItem || id == VhdxLayout.DiskIdItem
        || id == VhdxLayout.LogicalSectorItem || id == VhdxLayout.PhysicalSectorItem
        || id == VhdxLayout.ParentLocatorItem;

    /// <summary>An item of the region.</summary>
    /// <param name="Offset">Place in the file, bytes.</param>
    /// <param name="Length">Bytes.</param>
    private readonly record struct Item(long Offset, int Length);

    /// <summary>Reads items that have to be there.</summary>
    private sealed class ItemReader(BlockNode file, Dictionary<Guid, Item> items, CancellationToken cancellationToken)
    {
        public async ValueTask<byte[]> ReadAsync(Guid id, string what, int length)
        {
            if (!items.TryGetValue(id, out Item item))
            {
                throw BlockException.Invalid($"the metadata has no {what}");
            }

            if (length >= 0 && item.Length != length)
            {
                throw BlockException.Invalid(
                    $"the {what} has the wrong length", item.Offset, Text((ulong)item.Length), Text((ulong)length));
            }

            var bytes = new byte[item.Length];
            await file.ReadAsync(item.Offset, bytes, cancellationToken).ConfigureAwait(false);
            return bytes;
        }
    }
}
