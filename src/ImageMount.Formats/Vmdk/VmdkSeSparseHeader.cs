using System.Globalization;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// The validated, immutable facts of a SESPARSE extent: snapshots of ESXi 6.5 and later. VMware documents the format
/// nowhere; what is known was found by others from outside (version 2.1, grains of 4 KiB, tables of 4096 entries), so
/// anything else is refused rather than guessed at. Sizes and offsets are bytes.
/// </summary>
internal sealed class VmdkSeSparseHeader
{
    /// <summary>Size of a grain.</summary>
    public const int GrainSize = (int)VmdkLayout.SeSparseGrainSectors * VmdkLayout.SectorSize;

    /// <summary>Bytes of a grain table.</summary>
    public const int TableSize = (int)VmdkLayout.SeSparseTableSectors * VmdkLayout.SectorSize;

    /// <summary>Entries of a grain table.</summary>
    public const int TableEntries = TableSize / sizeof(ulong);

    /// <summary>Guest bytes that one grain table covers.</summary>
    public const long TableCoverage = (long)GrainSize * TableEntries;

    private VmdkSeSparseHeader()
    {
    }

    /// <summary>Size of the extent as the guest sees it.</summary>
    public required long Capacity { get; init; }

    /// <summary>Entries of the grain directory.</summary>
    public required int DirectoryEntries { get; init; }

    /// <summary>Where the grain directory is.</summary>
    public required long DirectoryOffset { get; init; }

    /// <summary>Where grain table 0 is.</summary>
    public required long TablesOffset { get; init; }

    /// <summary>Grain tables for which there is room.</summary>
    public required long Tables { get; init; }

    /// <summary>Where grain 0 is.</summary>
    public required long GrainsOffset { get; init; }

    /// <summary>Grains for which there is room.</summary>
    public required long Grains { get; init; }

    /// <summary>Reads and checks both headers.</summary>
    /// <exception cref="BlockException">InvalidData, NotSupported or LimitExceeded, with the place in the file.</exception>
    public static async ValueTask<VmdkSeSparseHeader> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        VmdkSeSparseConstHeader header = await ReadSectorAsync<VmdkSeSparseConstHeader>(file, 0, cancellationToken)
            .ConfigureAwait(false);
        VmdkSeSparseHeader facts = Validate(header, file.Length);
        long at = ToBytes(header.VolatileHeader.Offset, "the place of the volatile header", 80);
        VmdkSeSparseVolatileHeader second =
            await ReadSectorAsync<VmdkSeSparseVolatileHeader>(file, at, cancellationToken).ConfigureAwait(false);
        if (second.Magic != VmdkLayout.SeSparseVolatileMagic)
        {
            throw BlockException.Invalid("the volatile header of the SESPARSE extent is missing", at,
                Hex(second.Magic), Hex(VmdkLayout.SeSparseVolatileMagic));
        }

        return second.ReplayJournal == 0 ? facts : throw BlockException.Unsupported(
            "the SESPARSE extent was not closed: its journal has to be replayed, which only ESXi can",
            "Power the machine on and off, or consolidate its snapshots, on the ESXi host.");
    }

    private static VmdkSeSparseHeader Validate(in VmdkSeSparseConstHeader header, long fileLength)
    {
        Expect(header.Magic, VmdkLayout.SeSparseMagic, "magic", 0);
        Expect(header.Version, VmdkLayout.SeSparseVersion, "version", 8);
        Expect(header.GrainSize, VmdkLayout.SeSparseGrainSectors, "grain size", 24);
        Expect(header.GrainTableSize, VmdkLayout.SeSparseTableSectors, "grain table size", 32);
        Expect(header.Flags, 0, "flags", 40);
        Expect(header.Reserved1 | header.Reserved2 | header.Reserved3 | header.Reserved4, 0, "reserved word", 48);
        long capacity = ToBytes(header.Capacity, "the capacity", 16);
        long entries = (capacity / TableCoverage) + (capacity % TableCoverage == 0 ? 0 : 1);
        if (entries > VmdkLayout.MaxDirectoryEntries)
        {
            throw BlockException.Limit("the grain directory is too large", entries, VmdkLayout.MaxDirectoryEntries, 16);
        }

        if (entries == 0)
        {
            throw BlockException.Invalid("the capacity of the SESPARSE extent is 0", 16);
        }

        long directory = ToBytes(header.GrainDirectory.Offset, "the place of the grain directory", 128);
        long room = ToBytes(header.GrainDirectory.Size, "the size of the grain directory", 136);
        long bytes = entries * sizeof(ulong);
        if (directory < VmdkLayout.SectorSize || bytes > room || directory > fileLength - bytes)
        {
            throw BlockException.Invalid("the grain directory lies outside the file", 128,
                $"{entries} entries at 0x{directory:x}, room for {room / sizeof(ulong)}", $"inside {fileLength} bytes");
        }

        return new VmdkSeSparseHeader
        {
            Capacity = capacity,
            DirectoryEntries = (int)entries,
            DirectoryOffset = directory,
            TablesOffset = ToBytes(header.GrainTables.Offset, "the place of the grain tables", 144),
            Tables = ToBytes(header.GrainTables.Size, "the size of the grain tables", 152) / TableSize,
            GrainsOffset = ToBytes(header.Grains.Offset, "the place of the grains", 192),
            Grains = ToBytes(header.Grains.Size, "the size of the grains", 200) / GrainSize,
        };
    }

    private static async ValueTask<T> ReadSectorAsync<T>(
        BlockNode file, long offset, CancellationToken cancellationToken)
        where T : unmanaged
    {
        if (offset > file.Length - VmdkLayout.SectorSize)
        {
            throw BlockException.Invalid("the file ends inside a header of the SESPARSE extent", offset,
                $"{file.Length} bytes", $"{VmdkLayout.SectorSize} from there on");
        }

        using BufferLease sector = BufferPool.Shared.Rent(VmdkLayout.SectorSize);
        await file.ReadAsync(offset, sector.Memory, cancellationToken).ConfigureAwait(false);
        var reader = new SpanReader(sector.Span);
        reader.TryRead(out T value);
        return value;
    }

    private static void Expect(ulong found, ulong expected, string what, long at)
    {
        if (found != expected)
        {
            throw new BlockException(BlockErrorKind.NotSupported, $"this {what} of a SESPARSE extent is not known")
            {
                Offset = at,
                Found = Hex(found),
                Expected = Hex(expected),
            };
        }
    }

    /// <summary>Up to 2^60, so that an offset and a size can be added.</summary>
    private static long ToBytes(ulong sectors, string what, long at) =>
        sectors <= 1UL << 51
            ? (long)sectors * VmdkLayout.SectorSize
            : throw BlockException.Invalid($"{what} is impossible", at, $"0x{sectors:x} sectors", "at most 2^51");

    private static string Hex(ulong value) => "0x" + value.ToString("x", CultureInfo.InvariantCulture);
}
