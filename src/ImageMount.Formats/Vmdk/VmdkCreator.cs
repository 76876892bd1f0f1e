using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Makes empty disks: monolithicSparse with all its grain tables and their redundant copies, as the technote asks and
/// other programs expect, and monolithicFlat.
/// </summary>
public static class VmdkCreator
{
    /// <summary>Size of a grain, bytes; what everybody uses.</summary>
    public const int GrainSize = 64 << 10;

    /// <summary>Largest disk in one sparse extent: its grains are named by 32-bit sectors.</summary>
    public const long MaxSparseSize = 2L << 40;

    private const int EntriesPerTable = 512;
    private const int DescriptorSector = 1;
    private const int DescriptorSectors = 20;
    private const int TableSectors = EntriesPerTable * sizeof(uint) / VmdkLayout.SectorSize;

    /// <summary>Makes a monolithicSparse disk in an empty file that can grow. Durable when the task completes.</summary>
    /// <param name="file">The file, length 0.</param>
    /// <param name="fileName">Its name without folder, for the descriptor.</param>
    /// <param name="size">Size of the disk, bytes, a multiple of 512 up to <see cref="MaxSparseSize"/>.</param>
    /// <param name="options">What qemu-img's -o gives.</param>
    /// <param name="cancellationToken">Stops; the file is then useless.</param>
    public static async ValueTask CreateSparseAsync(
        BlockNode file, string fileName, long size, VmdkCreateOptions options,
        CancellationToken cancellationToken = default)
    {
        CheckSize(size, MaxSparseSize);
        long sectors = size / VmdkLayout.SectorSize;
        int tables = (int)((size + ((long)GrainSize * EntriesPerTable) - 1) / ((long)GrainSize * EntriesPerTable));
        long directorySectors = Sectors((long)tables * sizeof(uint));
        long redundant = DescriptorSector + DescriptorSectors;
        long primary = redundant + directorySectors + ((long)tables * TableSectors);
        long end = primary + directorySectors + ((long)tables * TableSectors);
        long overhead = (end * VmdkLayout.SectorSize + GrainSize - 1) / GrainSize * GrainSize;
        await GrowAsync(file, overhead, cancellationToken).ConfigureAwait(false);
        foreach (long directory in new[] { redundant, primary })
        {
            var entries = new uint[tables];
            for (int i = 0; i < tables; i++)
            {
                entries[i] = (uint)(directory + directorySectors + ((long)i * TableSectors));
            }

            var stored = new byte[tables * sizeof(uint)];
            VmdkGrainDirectory.Store(entries, stored);
            await file.WriteAsync(directory * VmdkLayout.SectorSize, stored, WriteFlags.None, cancellationToken)
                .ConfigureAwait(false);
        }

        string extent = $"RW {Text(sectors)} SPARSE \"{fileName}\"";
        byte[] descriptor = Describe("monolithicSparse", extent, sectors, options);
        if (descriptor.Length > DescriptorSectors * VmdkLayout.SectorSize)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the names are too long for the descriptor");
        }

        await file.WriteAsync(
            DescriptorSector * VmdkLayout.SectorSize, descriptor, WriteFlags.None, cancellationToken)
            .ConfigureAwait(false);

        // The header last: a file without it is no disk yet.
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        byte[] header = MakeHeader(sectors, redundant, primary, overhead / VmdkLayout.SectorSize, options);
        await file.WriteAsync(0, header, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Makes a monolithicFlat disk of two empty files that can grow. Durable when the task completes.</summary>
    /// <param name="descriptorFile">File for the text.</param>
    /// <param name="dataFile">File for the disk's bytes.</param>
    /// <param name="dataName">Name of the data file as seen from the descriptor.</param>
    /// <param name="size">Size of the disk, bytes, a multiple of 512.</param>
    /// <param name="options">What qemu-img's -o gives; a flat disk has neither parent nor zeroed grains.</param>
    /// <param name="cancellationToken">Stops; the files are then useless.</param>
    public static async ValueTask CreateFlatAsync(
        BlockNode descriptorFile, BlockNode dataFile, string dataName, long size, VmdkCreateOptions options,
        CancellationToken cancellationToken = default)
    {
        CheckSize(size, long.MaxValue);
        if (options.BackingFile is not null || options.ZeroedGrain)
        {
            throw new BlockException(
                BlockErrorKind.InvalidArgument, "a flat disk has no parent and no zeroed grains");
        }

        long sectors = size / VmdkLayout.SectorSize;
        await GrowAsync(dataFile, size, cancellationToken).ConfigureAwait(false);
        await dataFile.FlushAsync(cancellationToken).ConfigureAwait(false);
        byte[] text = Describe("monolithicFlat", $"RW {Text(sectors)} FLAT \"{dataName}\" 0", sectors, options);
        await GrowAsync(descriptorFile, text.Length, cancellationToken).ConfigureAwait(false);
        await descriptorFile.WriteAsync(0, text, WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await descriptorFile.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static byte[] MakeHeader(
        long sectors, long redundant, long primary, long overhead, VmdkCreateOptions options)
    {
        VmdkFlags flags = VmdkFlags.NewlineTest | VmdkFlags.Redundant
            | (options.ZeroedGrain ? VmdkFlags.ZeroedGrain : VmdkFlags.None);
        var header = new VmdkSparseHeader
        {
            Magic = VmdkLayout.SparseMagic,
            Version = options.ZeroedGrain ? 2u : 1u,
            Flags = (uint)flags,
            Capacity = (ulong)sectors,
            GrainSize = GrainSize / VmdkLayout.SectorSize,
            DescriptorOffset = DescriptorSector,
            DescriptorSize = DescriptorSectors,
            EntriesPerTable = EntriesPerTable,
            RedundantDirectoryOffset = (ulong)redundant,
            DirectoryOffset = (ulong)primary,
            Overhead = (ulong)overhead,
            SingleEndLine = (byte)'\n',
            NonEndLine = (byte)' ',
            DoubleEndLine1 = (byte)'\r',
            DoubleEndLine2 = (byte)'\n',
        };
        var sector = new byte[VmdkLayout.SectorSize];
        MemoryMarshal.Write(sector, in header);
        return sector;
    }

    private static byte[] Describe(string createType, string extent, long sectors, VmdkCreateOptions options)
    {
        // IDE has a geometry of its own, and ends at 16383 cylinders ("The Disk Database").
        bool ide = options.AdapterType == "ide";
        int heads = ide ? 16 : 255;
        long cylinders = Math.Min(sectors / (63L * heads), ide ? 16383 : uint.MaxValue);
        uint cid = (uint)Random.Shared.NextInt64(VmdkLayout.NoParent);
        string parent = options.BackingFile is null
            ? $"parentCID={VmdkLayout.NoParent:x8}\n"
            : $"parentCID={options.BackingCid:x8}\n";
        string hint = options.BackingFile is null ? "" : $"parentFileNameHint=\"{options.BackingFile}\"\n";
        string text = $"""
            # Disk DescriptorFile
            version=1
            encoding="UTF-8"
            CID={cid:x8}
            {parent}createType="{createType}"
            {hint}
            # Extent description
            {extent}

            # The Disk Data Base
            #DDB

            ddb.virtualHWVersion = "{options.HardwareVersion ?? (options.Compat6 ? "6" : "4")}"
            ddb.geometry.cylinders = "{Text(cylinders)}"
            ddb.geometry.heads = "{Text(heads)}"
            ddb.geometry.sectors = "63"
            ddb.adapterType = "{options.AdapterType}"

            """;
        return Encoding.UTF8.GetBytes(text);
    }

    private static async ValueTask GrowAsync(BlockNode file, long length, CancellationToken cancellationToken)
    {
        if (file.Length != 0)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, $"'{file.Name}' is not empty");
        }

        if (!await file.TryResizeAsync(length, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NotSupported, $"'{file.Name}' cannot grow");
        }
    }

    private static void CheckSize(long size, long limit)
    {
        if (size < VmdkLayout.SectorSize || size > limit || size % VmdkLayout.SectorSize != 0)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "a disk of this size cannot be made")
            {
                Found = Text(size),
                Expected = $"a multiple of {VmdkLayout.SectorSize} up to {Text(limit)}",
            };
        }
    }

    private static long Sectors(long bytes) => (bytes + VmdkLayout.SectorSize - 1) / VmdkLayout.SectorSize;

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
