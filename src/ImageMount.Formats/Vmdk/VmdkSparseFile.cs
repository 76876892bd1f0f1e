using System.Runtime.InteropServices;
using ImageMount.Core.Block;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Makes empty sparse extents with all their grain tables and the redundant copies, as the technote asks and other
/// programs expect.
/// </summary>
internal static class VmdkSparseFile
{
    /// <summary>Size of a grain, bytes; what everybody uses.</summary>
    public const int GrainSize = 64 << 10;

    /// <summary>Entries of a grain table; always.</summary>
    public const int EntriesPerTable = 512;

    /// <summary>Sectors of a grain table.</summary>
    public const int TableSectors = EntriesPerTable * sizeof(uint) / VmdkLayout.SectorSize;

    /// <summary>Where an embedded descriptor stands, sectors.</summary>
    public const int DescriptorSector = 1;

    /// <summary>Room for it, sectors; as much as everybody leaves.</summary>
    public const int DescriptorSectors = 20;

    /// <summary>Largest disk in one sparse extent: its grains are named by 32-bit sectors.</summary>
    public const long MaxSize = 2L << 40;

    /// <summary>Makes an extent in an empty file that can grow. Durable when the task completes.</summary>
    /// <param name="file">The file, length 0.</param>
    /// <param name="size">Guest bytes, a multiple of 512 up to <see cref="MaxSize"/>.</param>
    /// <param name="descriptor">The embedded descriptor, or null for one extent among several.</param>
    /// <param name="zeroedGrain">Entries may mean zeroes.</param>
    /// <param name="cancellationToken">Stops; the file is then useless.</param>
    public static async ValueTask CreateAsync(
        BlockNode file, long size, byte[]? descriptor, bool zeroedGrain, CancellationToken cancellationToken)
    {
        const long Coverage = (long)GrainSize * EntriesPerTable;
        int tables = (int)((size + Coverage - 1) / Coverage);
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

        if (descriptor is not null)
        {
            CheckDescriptor(descriptor);
            await file.WriteAsync(
                DescriptorSector * VmdkLayout.SectorSize, descriptor, WriteFlags.None, cancellationToken)
                .ConfigureAwait(false);
        }

        // The header last: a file without it is no disk yet.
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        VmdkSparseHeader header = MakeHeader(size, descriptor is not null);
        header.Version = zeroedGrain ? 2u : 1u;
        header.Flags = (uint)(VmdkFlags.NewlineTest | VmdkFlags.Redundant
            | (zeroedGrain ? VmdkFlags.ZeroedGrain : VmdkFlags.None));
        header.RedundantDirectoryOffset = (ulong)redundant;
        header.DirectoryOffset = (ulong)primary;
        header.Overhead = (ulong)(overhead / VmdkLayout.SectorSize);
        await file.WriteAsync(0, ToSector(header), WriteFlags.None, cancellationToken).ConfigureAwait(false);
        await file.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>A header with what all new extents have in common.</summary>
    public static VmdkSparseHeader MakeHeader(long size, bool hasDescriptor) => new()
    {
        Magic = VmdkLayout.SparseMagic,
        Capacity = (ulong)(size / VmdkLayout.SectorSize),
        GrainSize = GrainSize / VmdkLayout.SectorSize,
        DescriptorOffset = hasDescriptor ? (ulong)DescriptorSector : 0,
        DescriptorSize = hasDescriptor ? (ulong)DescriptorSectors : 0,
        EntriesPerTable = EntriesPerTable,
        SingleEndLine = (byte)'\n',
        NonEndLine = (byte)' ',
        DoubleEndLine1 = (byte)'\r',
        DoubleEndLine2 = (byte)'\n',
    };

    /// <summary>A header or marker as it is stored.</summary>
    public static byte[] ToSector<T>(in T structure)
        where T : unmanaged
    {
        var sector = new byte[VmdkLayout.SectorSize];
        MemoryMarshal.Write(sector, in structure);
        return sector;
    }

    /// <summary>Refuses a descriptor for which there is no room inside an extent.</summary>
    public static void CheckDescriptor(byte[] descriptor)
    {
        if (descriptor.Length > DescriptorSectors * VmdkLayout.SectorSize)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the names are too long for the descriptor");
        }
    }

    /// <summary>Gives an empty file its length.</summary>
    public static async ValueTask GrowAsync(BlockNode file, long length, CancellationToken cancellationToken)
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

    /// <summary>Sectors that bytes take.</summary>
    public static long Sectors(long bytes) => (bytes + VmdkLayout.SectorSize - 1) / VmdkLayout.SectorSize;
}
