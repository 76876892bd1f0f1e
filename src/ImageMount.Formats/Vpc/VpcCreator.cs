using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vpc;

/// <summary>
/// Makes fixed, dynamic and differencing disks. The file of a dynamic one: copy of the footer, header, table, parent
/// locators, footer. The copy at the start comes last; a fixed one becomes a disk by its footer at the end.
/// </summary>
internal sealed class VpcCreator : ImageCreator<VpcCreateOptions>
{
    private const uint CreatorApplication = 0x696d676d; // "imgm"
    private const uint CreatorHost = 0x5769326b; // "Wi2k": those who look at it know nothing else.
    private const int HeaderOffset = VpcLayout.FooterSize;
    private const int TableOffset = HeaderOffset + VpcLayout.HeaderSize;

    /// <inheritdoc/>
    protected override async ValueTask CreateAsync(
        CreateContext context, VpcCreateOptions options, CancellationToken cancellationToken)
    {
        BlockNode? parent = await OpenParentAsync(context, options, cancellationToken).ConfigureAwait(false);
        (long sectors, (int, int, int) geometry) = SizeOf(options, parent);
        var footer = new VpcRawFooter
        {
            Features = 2, // "Reserved": always set.
            DataOffset = options.Subformat == VpcSubformat.Fixed ? VpcLayout.NoOffset : HeaderOffset,
            Timestamp = (uint)(DateTime.UtcNow - VpcLayout.Epoch).TotalSeconds,
            CreatorApplication = CreatorApplication,
            CreatorVersion = VpcLayout.Version,
            CreatorHost = CreatorHost,
            OriginalSize = (ulong)(sectors * VpcLayout.SectorSize),
            CurrentSize = (ulong)(sectors * VpcLayout.SectorSize),
            Cylinders = (ushort)geometry.Item1,
            Heads = (byte)geometry.Item2,
            SectorsPerTrack = (byte)geometry.Item3,
            Type = (uint)(parent is not null ? VpcType.Differencing
                : options.Subformat == VpcSubformat.Fixed ? VpcType.Fixed : VpcType.Dynamic),
        };
        Guid.NewGuid().TryWriteBytes(footer.UniqueId);
        byte[] bytes = VpcFooter.Make(footer);
        if (options.Subformat == VpcSubformat.Fixed)
        {
            await GrowAsync(context.File, (sectors * VpcLayout.SectorSize) + VpcLayout.FooterSize, cancellationToken)
                .ConfigureAwait(false);
            await context.File.WriteAsync(sectors * VpcLayout.SectorSize, bytes, WriteFlags.None, cancellationToken)
                .ConfigureAwait(false);
        }
        else
        {
            await WriteDynamicAsync(context, options, parent, sectors, bytes, cancellationToken).ConfigureAwait(false);
        }

        await context.File.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask<BlockNode?> OpenParentAsync(
        CreateContext context, VpcCreateOptions options, CancellationToken cancellationToken)
    {
        if (options.BackingFile is null)
        {
            return options.BackingFormat is null ? null : throw Wrong("backing_fmt needs backing_file");
        }

        if (options.BackingFormat is not (null or "vpc") || options.Subformat == VpcSubformat.Fixed)
        {
            throw Wrong("a differencing VHD is dynamic, and its parent is a VHD (backing_fmt=vpc)");
        }

        BlockNode parent = await context.OpenParentAsync(options.BackingFile, "vpc", cancellationToken)
            .ConfigureAwait(false);
        return parent.Device is IVpcDisk ? parent : throw Wrong("the parent of a differencing VHD is a VHD");
    }

    /// <summary>Sectors and geometry as QEMU chooses them; a child is as large as it was asked to be.</summary>
    private static (long Sectors, (int, int, int) Geometry) SizeOf(VpcCreateOptions options, BlockNode? parent)
    {
        long wanted = (options.Size / VpcLayout.SectorSize) + (options.Size % VpcLayout.SectorSize == 0 ? 0 : 1);
        (int Cylinders, int Heads, int PerTrack) geometry = VpcSize.GeometryFor(wanted);
        long sectors = (long)geometry.Cylinders * geometry.Heads * geometry.PerTrack;
        if (options.ForceSize || sectors == VpcLayout.MaxGeometry || (parent is not null && sectors != wanted))
        {
            // The largest geometry: programs that count in cylinders then use the size.
            geometry = (65535, 16, 255);
            sectors = wanted;
        }

        return sectors <= VpcLayout.MaxSectors ? (sectors, geometry)
            : throw Wrong($"a VHD holds at most {VpcLayout.MaxSectors * VpcLayout.SectorSize} bytes");
    }

    private static async ValueTask WriteDynamicAsync(
        CreateContext context, VpcCreateOptions options, BlockNode? parent, long sectors, byte[] footer,
        CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        long blocks = ((sectors * VpcLayout.SectorSize) + VpcLayout.BlockSize - 1) / VpcLayout.BlockSize;
        var header = new VpcRawHeader
        {
            TableOffset = TableOffset,
            Entries = (uint)blocks,
            BlockSize = VpcLayout.BlockSize,
        };
        long at = TableOffset + RoundUp(blocks * sizeof(uint));
        var locators = new List<(long Offset, byte[] Bytes)>();
        if (parent is not null)
        {
            at = AddParent(context, options.BackingFile!, parent, ref header, locators, at);
        }

        await GrowAsync(file, at + VpcLayout.FooterSize, cancellationToken).ConfigureAwait(false);
        await WriteTableAsync(file, blocks, cancellationToken).ConfigureAwait(false);
        await file.WriteAsync(HeaderOffset, VpcHeader.Make(header), WriteFlags.None, cancellationToken)
            .ConfigureAwait(false);
        foreach ((long offset, byte[] bytes) in locators)
        {
            await file.WriteAsync(offset, bytes, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        }

        await file.WriteAsync(at, footer, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        await file.WriteAsync(0, footer, WriteFlags.None, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Writes down who the parent is and where: its name, and both Windows paths.</summary>
    private static long AddParent(
        CreateContext context, string reference, BlockNode parent, ref VpcRawHeader header,
        List<(long Offset, byte[] Bytes)> locators, long at)
    {
        ((IVpcDisk)parent.Device).Footer.UniqueId.TryWriteBytes(header.ParentId, bigEndian: true, out _);
        header.ParentTimestamp = VpcParent.TimestampOf(parent);
        byte[] name = Encoding.BigEndianUnicode.GetBytes(Path.GetFileName(reference));
        if (name.Length > 510)
        {
            throw Wrong("the parent's name is too long for a VHD");
        }

        name.CopyTo(header.ParentName);
        string absolute = Path.GetFullPath(context.ResolveReference(reference));
        string relative = Path.IsPathRooted(reference) ? absolute : "./" + reference;
        (uint, string)[] paths = [(VpcPlatform.AbsolutePath, absolute), (VpcPlatform.RelativePath, relative)];
        for (int i = 0; i < paths.Length; i++)
        {
            byte[] bytes = Encoding.Unicode.GetBytes(paths[i].Item2.Replace('/', '\\'));
            if (bytes.Length > VpcLayout.MaxLocator)
            {
                throw Wrong("the parent's path is too long");
            }

            header.Locators[i] = new VpcRawLocator
            {
                Platform = paths[i].Item1,
                Space = (uint)RoundUp(bytes.Length),
                Length = (uint)bytes.Length,
                Offset = (ulong)at,
            };
            locators.Add((at, bytes));
            at += RoundUp(bytes.Length);
        }

        return at;
    }

    private static async ValueTask WriteTableAsync(BlockNode file, long blocks, CancellationToken cancellationToken)
    {
        const int Step = 64 << 10;
        using BufferLease bytes = BufferPool.Shared.Rent(Step);
        bytes.Span.Fill(0xff); // Free entries; and the same to the end of the sector, as others have it.
        long size = RoundUp(blocks * sizeof(uint));
        for (long at = 0; at < size; at += Step)
        {
            await file.WriteAsync(
                TableOffset + at, bytes.Memory[..(int)Math.Min(Step, size - at)], WriteFlags.None, cancellationToken)
                .ConfigureAwait(false);
        }
    }

    private static async ValueTask GrowAsync(BlockNode file, long length, CancellationToken cancellationToken)
    {
        if (!await file.TryResizeAsync(length, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NotSupported, $"'{file.Name}' cannot grow");
        }
    }

    private static long RoundUp(long bytes) =>
        (bytes + VpcLayout.SectorSize - 1) / VpcLayout.SectorSize * VpcLayout.SectorSize;

    private static BlockException Wrong(string what) => new(BlockErrorKind.InvalidArgument, what);
}
