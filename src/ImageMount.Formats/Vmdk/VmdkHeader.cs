using System.Globalization;
using System.Numerics;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// The validated, immutable facts of a sparse extent's header ("Hosted Sparse Extents"; COWD ones come from
/// <see cref="VmdkCowd"/>). Sizes and offsets are bytes here; none overflows, and the structures that it names lie inside
/// the file.
/// </summary>
internal sealed class VmdkHeader
{
    /// <summary>1…3.</summary>
    public required uint Version { get; init; }

    /// <summary>Flags, unknown ones included.</summary>
    public required VmdkFlags Flags { get; init; }

    /// <summary>Size of the extent as the guest sees it; 0 for a file that only carries a descriptor.</summary>
    public required long Capacity { get; init; }

    /// <summary>Size of a grain; a power of two.</summary>
    public required int GrainSize { get; init; }

    /// <summary>Entries of a grain table; a power of two.</summary>
    public required int EntriesPerTable { get; init; }

    /// <summary>Entries of the grain directory.</summary>
    public required int DirectoryEntries { get; init; }

    /// <summary>Where the grain directory is.</summary>
    public required long DirectoryOffset { get; init; }

    /// <summary>Where the redundant grain directory is; 0 when there is none.</summary>
    public required long RedundantDirectoryOffset { get; init; }

    /// <summary>Where the embedded descriptor is; 0 when there is none.</summary>
    public required long DescriptorOffset { get; init; }

    /// <summary>Room for the embedded descriptor.</summary>
    public required int DescriptorSize { get; init; }

    /// <summary>Somebody has, or had when he died, the extent open for writing.</summary>
    public required bool IsUnclean { get; init; }

    /// <summary>The tables were found through the footer, as in streams.</summary>
    public required bool HasFooter { get; init; }

    /// <summary>Bytes of the header.</summary>
    public int HeaderSize { get; init; } = VmdkLayout.SectorSize;

    /// <summary>Where the mark is that says that the extent is open for writing.</summary>
    public int UncleanOffset { get; init; } = VmdkLayout.UncleanShutdownOffset;

    /// <summary>Bytes of that mark, little-endian.</summary>
    public int UncleanSize { get; init; } = 1;

    /// <summary>COWD: end of the space that was ever given out; other programs give out what follows. Null: not kept.</summary>
    public long? FreeOffset { get; init; }

    /// <summary>COWD: the extent says of itself that it has a parent.</summary>
    public bool IsChild { get; init; }

    /// <summary>COWD: name of that parent, if it is there.</summary>
    public string? ParentFileName { get; init; }

    /// <summary>True for a COWD extent.</summary>
    public bool IsCowd => FreeOffset is not null;

    /// <summary>Word for the extent in a descriptor.</summary>
    public string TypeName => IsCowd ? "VMFSSPARSE" : "SPARSE";

    /// <summary>Grains are compressed.</summary>
    public bool IsCompressed => (Flags & VmdkFlags.Compressed) != 0;

    /// <summary>Grain table entries of 1 mean zeroes.</summary>
    public bool HasZeroedGrains => (Flags & VmdkFlags.ZeroedGrain) != 0;

    /// <summary>Guest bytes that one grain table covers.</summary>
    public long TableCoverage => (long)GrainSize * EntriesPerTable;

    /// <summary>Bytes of a grain table.</summary>
    public int TableSize => EntriesPerTable * sizeof(uint);

    /// <summary>Why the extent cannot be written, or null.</summary>
    public string? WhyReadOnly =>
        IsCompressed || HasFooter ? "a streamOptimized image cannot be changed in place" : null;

    /// <summary>The number that a file begins with.</summary>
    public static async ValueTask<uint> ReadMagicAsync(BlockNode file, CancellationToken cancellationToken)
    {
        int count = (int)Math.Min(file.Length, sizeof(uint));
        using BufferLease bytes = BufferPool.Shared.Rent(sizeof(uint));
        await file.ReadAsync(0, bytes.Memory[..count], cancellationToken).ConfigureAwait(false);
        var reader = new SpanReader(bytes.Span[..count]);
        return reader.TryRead(out Le32 magic)
            ? magic : throw BlockException.Invalid("the file ends inside the header", 0, $"{count} bytes", "79 bytes");
    }

    /// <summary>Reads and checks the header of an extent, and its footer where the header says that it counts.</summary>
    /// <exception cref="BlockException">InvalidData, NotSupported or LimitExceeded, with the place in the file.</exception>
    public static async ValueTask<VmdkHeader> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        if (await ReadMagicAsync(file, cancellationToken).ConfigureAwait(false) == VmdkLayout.CowdMagic)
        {
            return await VmdkCowd.ReadHeaderAsync(file, cancellationToken).ConfigureAwait(false);
        }

        VmdkSparseHeader header = await ReadSectorAsync(file, 0, cancellationToken).ConfigureAwait(false);
        if (header.DirectoryOffset != VmdkLayout.DirectoryAtEnd)
        {
            return Validate(header, 0, file.Length, hasFooter: false);
        }

        // Footer marker, footer, end-of-stream marker: the last three sectors ("Stream-Optimized Compressed").
        long at = file.Length / VmdkLayout.SectorSize * VmdkLayout.SectorSize - (2 * VmdkLayout.SectorSize);
        if (at < VmdkLayout.SectorSize)
        {
            throw BlockException.Invalid("the footer of the stream is missing", null, $"a file of {file.Length} bytes");
        }

        VmdkSparseHeader footer = await ReadSectorAsync(file, at, cancellationToken).ConfigureAwait(false);
        if (footer.DirectoryOffset == VmdkLayout.DirectoryAtEnd)
        {
            throw BlockException.Invalid(
                "the footer does not say where the grain directory is", at, "0xffffffffffffffff", "a sector");
        }

        if (footer.Capacity != header.Capacity || footer.GrainSize != header.GrainSize
            || footer.EntriesPerTable != header.EntriesPerTable || footer.Flags != header.Flags
            || footer.CompressAlgorithm != header.CompressAlgorithm)
        {
            throw BlockException.Invalid("the footer and the header of the stream contradict each other", at);
        }

        // The descriptor of a stream is at the head; a footer need not repeat where.
        footer.DescriptorOffset = header.DescriptorOffset;
        footer.DescriptorSize = header.DescriptorSize;
        return Validate(footer, at, file.Length, hasFooter: true);
    }

    /// <summary>True when a range overlaps what describes the extent; a grain there must not be written.</summary>
    public bool IsMetadata(long host, long length)
    {
        long directory = (long)DirectoryEntries * sizeof(uint);
        return host < HeaderSize
            || Overlaps(DirectoryOffset, directory)
            || Overlaps(RedundantDirectoryOffset, directory)
            || Overlaps(DescriptorOffset, DescriptorSize);

        bool Overlaps(long start, long count) => start != 0 && host < start + count && start < host + length;
    }

    private static async ValueTask<VmdkSparseHeader> ReadSectorAsync(
        BlockNode file, long offset, CancellationToken cancellationToken)
    {
        int count = (int)Math.Clamp(file.Length - offset, 0, VmdkLayout.SectorSize);
        using BufferLease sector = BufferPool.Shared.Rent(VmdkLayout.SectorSize);
        await file.ReadAsync(offset, sector.Memory[..count], cancellationToken).ConfigureAwait(false);
        var reader = new SpanReader(sector.Span[..count]);
        if (!reader.TryRead(out VmdkSparseHeader header))
        {
            throw BlockException.Invalid("the file ends inside the header", offset, $"{count} bytes", "79 bytes");
        }

        if (header.Magic != VmdkLayout.SparseMagic)
        {
            throw BlockException.Invalid(
                "this is not a sparse extent", offset, Hex(header.Magic), Hex(VmdkLayout.SparseMagic));
        }

        return header;
    }

    private static VmdkHeader Validate(in VmdkSparseHeader header, long at, long fileLength, bool hasFooter)
    {
        if (header.Version < 1 || header.Version > VmdkLayout.MaxVersion)
        {
            throw BlockException.Unsupported($"sparse extents of version {header.Version} are not supported");
        }

        var flags = (VmdkFlags)header.Flags.Value;
        CheckNewlines(header, flags, at);
        CheckCompression(header, flags, at);
        bool hasGrains = header.Capacity != 0;
        int grain = hasGrains ? ReadGrainSize(header, flags, at) : VmdkLayout.SectorSize;
        uint perTable = hasGrains ? header.EntriesPerTable : 1;
        if (perTable == 0 || perTable > VmdkLayout.MaxTableEntries || !BitOperations.IsPow2(perTable))
        {
            throw BlockException.Invalid("the size of grain tables is impossible", at + 44,
                perTable.ToString(CultureInfo.InvariantCulture), $"a power of two up to {VmdkLayout.MaxTableEntries}");
        }

        long capacity = ToBytes(header.Capacity, "the capacity", at + 12);
        long coverage = (long)grain * perTable;
        long entries = capacity / coverage + (capacity % coverage == 0 ? 0 : 1);
        if (entries > VmdkLayout.MaxDirectoryEntries)
        {
            throw BlockException.Limit(
                "the grain directory is too large", entries, VmdkLayout.MaxDirectoryEntries, at + 12);
        }

        bool redundant = (flags & VmdkFlags.Redundant) != 0 && header.RedundantDirectoryOffset != 0;
        long descriptorSize = ToBytes(header.DescriptorSize, "the size of the descriptor", at + 36);
        if (descriptorSize > VmdkLayout.MaxDescriptorBytes)
        {
            throw BlockException.Limit(
                "the embedded descriptor is too large", descriptorSize, VmdkLayout.MaxDescriptorBytes, at + 36);
        }

        long descriptor = ToBytes(header.DescriptorOffset, "the place of the descriptor", at + 28);
        CheckInside("the embedded descriptor", descriptor, descriptorSize, fileLength, at + 28);
        return new VmdkHeader
        {
            Version = header.Version,
            Flags = flags,
            Capacity = capacity,
            GrainSize = grain,
            EntriesPerTable = (int)perTable,
            DirectoryEntries = (int)entries,
            DirectoryOffset = ToBytes(header.DirectoryOffset, "the place of the grain directory", at + 56),
            RedundantDirectoryOffset = redundant
                ? ToBytes(header.RedundantDirectoryOffset, "the place of the redundant grain directory", at + 48) : 0,
            DescriptorOffset = descriptorSize == 0 ? 0 : descriptor,
            DescriptorSize = (int)descriptorSize,
            IsUnclean = header.UncleanShutdown != 0,
            HasFooter = hasFooter,
        };
    }

    private static int ReadGrainSize(in VmdkSparseHeader header, VmdkFlags flags, long at)
    {
        ulong sectors = header.GrainSize;
        ulong most = (flags & VmdkFlags.Compressed) != 0
            ? VmdkLayout.MaxCompressedGrainSectors : VmdkLayout.MaxGrainSectors;
        if (sectors < VmdkLayout.MinGrainSectors || sectors > most || !BitOperations.IsPow2(sectors))
        {
            throw BlockException.Invalid("the grain size is impossible", at + 20,
                $"{sectors} sectors", $"a power of two from {VmdkLayout.MinGrainSectors} to {most}");
        }

        return (int)sectors * VmdkLayout.SectorSize;
    }

    private static void CheckNewlines(in VmdkSparseHeader header, VmdkFlags flags, long at)
    {
        if ((flags & VmdkFlags.NewlineTest) != 0
            && (header.SingleEndLine != '\n' || header.NonEndLine != ' '
                || header.DoubleEndLine1 != '\r' || header.DoubleEndLine2 != '\n'))
        {
            throw BlockException.Invalid(
                "the file was damaged by a transfer in text mode", at + 73,
                Convert.ToHexStringLower(
                    [header.SingleEndLine, header.NonEndLine, header.DoubleEndLine1, header.DoubleEndLine2]),
                "0a200d0a");
        }
    }

    private static void CheckCompression(in VmdkSparseHeader header, VmdkFlags flags, long at)
    {
        VmdkFlags unknown = flags & VmdkFlags.Incompatible & ~(VmdkFlags.Compressed | VmdkFlags.Markers);
        if (unknown != 0)
        {
            throw new BlockException(BlockErrorKind.NotSupported, "the extent uses features that are not known")
            {
                Offset = at + 8,
                Found = $"flags 0x{(uint)unknown:x8}",
            };
        }

        if ((flags & (VmdkFlags.Compressed | VmdkFlags.Markers)) == VmdkFlags.Compressed)
        {
            throw BlockException.Unsupported("compressed grains without markers are not supported");
        }

        if ((flags & VmdkFlags.Compressed) != 0 && header.CompressAlgorithm != VmdkLayout.CompressionDeflate)
        {
            throw new BlockException(BlockErrorKind.NotSupported, "the compression of the grains is not known")
            {
                Offset = at + 77,
                Found = header.CompressAlgorithm.ToString(),
                Expected = "1 (deflate)",
            };
        }
    }

    private static void CheckInside(string what, long offset, long count, long fileLength, long at)
    {
        if (count > 0 && (offset == 0 || offset > fileLength - count))
        {
            throw BlockException.Invalid(
                $"{what} lies outside the file", at, $"0x{offset:x} + {count} bytes", $"inside {fileLength} bytes");
        }
    }

    private static long ToBytes(ulong sectors, string what, long at) =>
        sectors <= long.MaxValue / VmdkLayout.SectorSize
            ? (long)sectors * VmdkLayout.SectorSize
            : throw BlockException.Invalid($"{what} is impossible", at, $"0x{sectors:x} sectors", "less than 2^54");

    private static string Hex(uint value) => $"0x{value:x8}";
}
