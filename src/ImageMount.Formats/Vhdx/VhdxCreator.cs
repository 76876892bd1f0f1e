using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vhdx;

/// <summary>
/// Makes empty disks: header section, log, metadata, BAT, and for a fixed disk the blocks, in this order in the file;
/// the file identifier, without which nothing of that counts, is written last.
/// </summary>
public sealed class VhdxCreator : ImageCreator<VhdxCreateOptions>
{
    private const string CreatorName = "imgmount";
    private const int PhysicalSectorSize = 4096;
    private const int ChildBlockSize = 2 << 20;
    private const int MetadataSize = VhdxLayout.MiB;
    private const int BatStep = 1 << 20;

    /// <inheritdoc/>
    protected override async ValueTask CreateAsync(
        CreateContext context, VhdxCreateOptions options, CancellationToken cancellationToken)
    {
        NewDisk disk = options.BackingFile is null
            ? Plan(options, null, [])
            : await PlanChildAsync(context, options, cancellationToken).ConfigureAwait(false);
        await WriteAsync(context.File, disk, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Makes an image without a parent in an empty file that can grow; durable then.</summary>
    public static ValueTask CreateAsync(
        BlockNode file, VhdxCreateOptions options, CancellationToken cancellationToken = default) =>
        WriteAsync(file, Plan(options, null, []), cancellationToken);

    /// <summary>Makes a differencing image over a parent that is open.</summary>
    /// <param name="file">The empty file.</param>
    /// <param name="options">What it is to be like.</param>
    /// <param name="parent">The parent, an open vhdx image.</param>
    /// <param name="relativePath">Where the parent is, seen from the child, with backslashes.</param>
    /// <param name="cancellationToken">Stops; the file is then useless.</param>
    public static ValueTask CreateChildAsync(
        BlockNode file, VhdxCreateOptions options, BlockNode parent, string relativePath,
        CancellationToken cancellationToken = default)
    {
        VhdxDevice device = parent.Device as VhdxDevice ?? throw Refuse("the parent is not a vhdx image");
        return WriteAsync(file, Plan(options, device, Locate(device, relativePath)), cancellationToken);
    }

    /// <summary>
    /// The path that counts is the relative one. Programs that know only Windows paths find the name in another, of
    /// which no drive is claimed.
    /// </summary>
    private static List<KeyValuePair<string, string>> Locate(VhdxDevice parent, string relativePath) =>
    [
        new(VhdxParentLocator.Linkage, parent.DataWriteGuid.ToString("B", CultureInfo.InvariantCulture)),
        new(VhdxParentLocator.RelativePath, relativePath),
        new(VhdxParentLocator.AbsolutePath, @"\\?\" + relativePath[(relativePath.LastIndexOf('\\') + 1)..]),
    ];

    private static async ValueTask<NewDisk> PlanChildAsync(
        CreateContext context, VhdxCreateOptions options, CancellationToken cancellationToken)
    {
        if (options.BackingFormat is not (null or "vhdx"))
        {
            throw Refuse("the parent of a vhdx image can only be a vhdx image", options.BackingFormat);
        }

        BlockNode parent = await context.OpenParentAsync(options.BackingFile!, "vhdx", cancellationToken)
            .ConfigureAwait(false);
        VhdxDevice device = parent.Device as VhdxDevice ?? throw Refuse("the parent is not a vhdx image");
        string resolved = context.ResolveReference(options.BackingFile!);
        if (resolved.Contains("://", StringComparison.Ordinal) || resolved.Contains('\\'))
        {
            throw Refuse("a vhdx image can name its parent only by a path without backslashes", resolved);
        }

        string folder = Path.GetFullPath(context.ResolveReference("."));
        string relative = Path.GetRelativePath(folder, Path.GetFullPath(resolved)).Replace('/', '\\');
        return Plan(options, device, Locate(device, relative.StartsWith('.') ? relative : ".\\" + relative));
    }

    private static NewDisk Plan(
        VhdxCreateOptions options, VhdxDevice? parent, List<KeyValuePair<string, string>> locator)
    {
        int sectorSize = options.LogicalSectorSize == 0 ? parent?.SectorSize ?? 512 : options.LogicalSectorSize;
        if (sectorSize is not (512 or 4096) || (parent is not null && sectorSize != parent.SectorSize))
        {
            throw Refuse(
                "the logical sector size is not possible", Text(sectorSize), parent is null ? "512 or 4096"
                    : $"that of the parent: {parent.SectorSize}");
        }

        if (options.Size > VhdxLayout.MaxDiskSize || options.Size % sectorSize != 0)
        {
            throw Refuse(
                "the size is not possible for a vhdx image", Text(options.Size),
                $"a multiple of {sectorSize} up to 64 TiB");
        }

        if (parent is not null && options.Subformat == VhdxSubformat.Fixed)
        {
            throw Refuse("a disk with a parent cannot be fixed");
        }

        long blockSize = options.BlockSize != 0 ? options.BlockSize
            : parent is not null ? ChildBlockSize : DefaultBlockSize(options.Size);
        if (blockSize < VhdxLayout.MinBlockSize || (blockSize & (blockSize - 1)) != 0)
        {
            throw Refuse("the block size is not possible", Text(blockSize), "a power of two, 1 MiB … 256 MiB");
        }

        if (options.LogSize % VhdxLayout.MiB != 0)
        {
            throw Refuse("the log size is not possible", Text(options.LogSize), "a multiple of 1 MiB");
        }

        var geometry = new VhdxGeometry((int)blockSize, sectorSize, parent is not null);
        return new NewDisk(
            options, geometry, Math.Max(options.LogSize, VhdxLayout.MiB), parent?.DiskId ?? Guid.NewGuid(), locator);
    }

    /// <summary>As qemu-img chooses.</summary>
    private static long DefaultBlockSize(long size) => size switch
    {
        > 32L << 40 => 64 << 20,
        > 100L << 30 => 32 << 20,
        > 1L << 30 => 16 << 20,
        _ => 8 << 20,
    };

    private static async ValueTask WriteAsync(BlockNode file, NewDisk disk, CancellationToken cancellationToken)
    {
        long end = disk.PayloadOffset + (disk.IsFixed ? disk.Blocks << disk.Geometry.BlockBits : 0);
        if (!await file.TryResizeAsync(end, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the new image's file cannot grow")
            {
                Expected = $"at least {end} bytes",
            };
        }

        if (disk.IsFixed || (disk.Options.BlockStateZero && !disk.Geometry.HasParent))
        {
            await WriteBatAsync(file, disk, cancellationToken).ConfigureAwait(false);
        }

        byte[] metadata = StoreMetadata(disk);
        await file.WriteAsync(disk.MetadataOffset, metadata, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        byte[] regions = StoreRegions(disk);
        foreach (long offset in (long[])[VhdxLayout.RegionTable1Offset, VhdxLayout.RegionTable2Offset])
        {
            await file.WriteAsync(offset, regions, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        }

        var nothing = new VhdxHeader(1, 0, default, default, Guid.Empty, VhdxLayout.HeaderSectionSize, disk.LogSize);
        await new VhdxHeaderWriter(file, nothing)
            .UpdateAsync(static old => old with { FileWriteGuid = Guid.NewGuid(), DataWriteGuid = Guid.NewGuid() })
            .ConfigureAwait(false);
        var identifier = new byte[VhdxLayout.CreatorOffset + VhdxLayout.CreatorSize];
        MemoryMarshal.Write(identifier, new Le64(VhdxLayout.FileSignature));
        Encoding.Unicode.GetBytes(CreatorName, identifier.AsSpan(VhdxLayout.CreatorOffset));
        await file.WriteAsync(0, identifier, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask WriteBatAsync(BlockNode file, NewDisk disk, CancellationToken cancellationToken)
    {
        long entries = disk.Geometry.EntriesOf(disk.Options.Size);
        using BufferLease bytes = BufferPool.Shared.Rent(BatStep);
        for (long first = 0; first < entries; first += BatStep / sizeof(ulong))
        {
            int count = (int)Math.Min(BatStep / sizeof(ulong), entries - first);
            FillBat(MemoryMarshal.Cast<byte, Le64>(bytes.Span)[..count], first, disk);
            await file.WriteAsync(
                disk.BatOffset + (first * sizeof(ulong)), bytes.Memory[..(count * sizeof(ulong))], WriteFlags.None,
                cancellationToken).ConfigureAwait(false);
        }
    }

    private static void FillBat(Span<Le64> entries, long first, NewDisk disk)
    {
        for (int i = 0; i < entries.Length; i++)
        {
            long index = first + i;
            long block = index - (index / (disk.Geometry.ChunkRatio + 1));
            entries[i] = disk.Geometry.IsBitmapEntry(index) ? 0
                : !disk.IsFixed ? (ulong)VhdxState.Zero
                : (ulong)(disk.PayloadOffset + (block << disk.Geometry.BlockBits)) | (ulong)VhdxState.FullyPresent;
        }
    }

    private static byte[] StoreRegions(NewDisk disk)
    {
        var table = new byte[VhdxLayout.RegionTableSize];
        var head = new VhdxRawRegionHeader { Signature = VhdxLayout.RegionSignature, EntryCount = 2 };
        int headSize = Marshal.SizeOf<VhdxRawRegionHeader>();
        MemoryMarshal.Write(table.AsSpan(headSize), new VhdxRawRegion
        {
            Id = VhdxLayout.BatRegion,
            FileOffset = (ulong)disk.BatOffset,
            Length = (uint)disk.BatSize,
            Required = 1,
        });
        MemoryMarshal.Write(table.AsSpan(headSize + Marshal.SizeOf<VhdxRawRegion>()), new VhdxRawRegion
        {
            Id = VhdxLayout.MetadataRegion,
            FileOffset = (ulong)disk.MetadataOffset,
            Length = MetadataSize,
            Required = 1,
        });
        MemoryMarshal.Write(table, head);
        head.Checksum = VhdxLayout.Checksum(table);
        MemoryMarshal.Write(table, head);
        return table;
    }

    private static byte[] StoreMetadata(NewDisk disk)
    {
        bool hasParent = disk.Geometry.HasParent;
        var items = new List<(Guid Id, byte[] Bytes, bool IsOfDisk)>
        {
            (VhdxLayout.FileParametersItem, Bytes(
                new Le32((uint)disk.Geometry.BlockSize), new Le32(hasParent ? 2u : disk.IsFixed ? 1u : 0u)), false),
            (VhdxLayout.DiskSizeItem, Bytes(new Le64((ulong)disk.Options.Size)), true),
            (VhdxLayout.DiskIdItem, Bytes(new VhdxGuid(disk.DiskId)), true),
            (VhdxLayout.LogicalSectorItem, Bytes(new Le32((uint)disk.Geometry.SectorSize)), true),
            (VhdxLayout.PhysicalSectorItem, Bytes(new Le32(PhysicalSectorSize)), true),
        };
        if (hasParent)
        {
            items.Add((VhdxLayout.ParentLocatorItem, VhdxParentLocator.Store(disk.Locator), false));
        }

        var region = new byte[VhdxLayout.MetadataTableSize + items.Sum(item => item.Bytes.Length)];
        MemoryMarshal.Write(region, new VhdxRawMetadataHeader
        {
            Signature = VhdxLayout.MetadataSignature,
            EntryCount = (ushort)items.Count,
        });
        int entryAt = Marshal.SizeOf<VhdxRawMetadataHeader>();
        int at = VhdxLayout.MetadataTableSize;
        foreach ((Guid id, byte[] bytes, bool isOfDisk) in items)
        {
            MemoryMarshal.Write(region.AsSpan(entryAt), new VhdxRawMetadataEntry
            {
                ItemId = id,
                Offset = (uint)at,
                Length = (uint)bytes.Length,
                Flags = VhdxRawMetadataEntry.IsRequired | (isOfDisk ? VhdxRawMetadataEntry.IsVirtualDisk : 0),
            });
            bytes.CopyTo(region, at);
            entryAt += Marshal.SizeOf<VhdxRawMetadataEntry>();
            at += bytes.Length;
        }

        return region;
    }

    private static byte[] Bytes<T>(params T[] values)
        where T : unmanaged => MemoryMarshal.AsBytes(values.AsSpan()).ToArray();

    private static string Text(long value) => value.ToString(CultureInfo.InvariantCulture);

    private static BlockException Refuse(string what, string? found = null, string? expected = null) =>
        new(BlockErrorKind.InvalidArgument, what) { Found = found, Expected = expected };

    /// <summary>A disk that is about to be made, and where its parts go.</summary>
    private sealed record NewDisk(
        VhdxCreateOptions Options, VhdxGeometry Geometry, long LogSize, Guid DiskId,
        IReadOnlyList<KeyValuePair<string, string>> Locator)
    {
        public bool IsFixed => Options.Subformat == VhdxSubformat.Fixed;

        public long Blocks => Geometry.BlocksOf(Options.Size);

        public long MetadataOffset => VhdxLayout.HeaderSectionSize + LogSize;

        public long BatOffset => MetadataOffset + MetadataSize;

        public long BatSize => Math.Max(
            VhdxLayout.MiB,
            ((Geometry.EntriesOf(Options.Size) * sizeof(ulong)) + VhdxLayout.MiB - 1) & -(long)VhdxLayout.MiB);

        public long PayloadOffset => BatOffset + BatSize;
    }
}
