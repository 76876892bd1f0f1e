using System.Numerics;
using System.Text;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Reads the header of a COWD extent ("ESXi Host Sparse Extents"): snapshots of ESX up to 6.0. Apart from its header it
/// is a hosted extent with tables of 4096 entries, usually with grains of one sector.
/// </summary>
internal static class VmdkCowd
{
    /// <summary>Reads and checks a header whose magic was seen.</summary>
    /// <exception cref="BlockException">InvalidData, NotSupported or LimitExceeded, with the place in the file.</exception>
    public static async ValueTask<VmdkHeader> ReadHeaderAsync(BlockNode file, CancellationToken cancellationToken)
    {
        if (file.Length < VmdkLayout.CowdHeaderSize)
        {
            throw BlockException.Invalid("the file ends inside the header of a COWD extent", 0,
                $"{file.Length} bytes", $"{VmdkLayout.CowdHeaderSize}");
        }

        using BufferLease bytes = BufferPool.Shared.Rent(VmdkLayout.CowdHeaderSize);
        await file.ReadAsync(0, bytes.Memory, cancellationToken).ConfigureAwait(false);
        return Validate(bytes.Span);
    }

    private static VmdkHeader Validate(ReadOnlySpan<byte> bytes)
    {
        var reader = new SpanReader(bytes);
        reader.TryRead(out VmdkCowdHeader header);
        if (header.Version != 1)
        {
            throw BlockException.Unsupported($"COWD extents of version {header.Version} are not supported");
        }

        uint grain = header.GrainSize;
        if (grain == 0 || grain > VmdkLayout.MaxGrainSectors || !BitOperations.IsPow2(grain))
        {
            throw BlockException.Invalid("the grain size is impossible", 16, $"{grain} sectors",
                $"a power of two up to {VmdkLayout.MaxGrainSectors}");
        }

        long capacity = (long)header.Capacity.Value * VmdkLayout.SectorSize;
        long coverage = (long)grain * VmdkLayout.SectorSize * VmdkLayout.CowdTableEntries;
        long entries = (capacity + coverage - 1) / coverage;
        if (entries == 0 || entries > header.DirectoryEntries)
        {
            throw BlockException.Invalid("the grain directory does not fit the capacity", 24,
                $"{header.DirectoryEntries} entries for {header.Capacity} sectors", $"at least {Math.Max(entries, 1)}");
        }

        bool isChild = (header.Flags & VmdkLayout.CowdRoot) == 0;
        reader.TrySeek(VmdkLayout.CowdUncleanOffset);
        reader.TryRead(out Le32 unclean);
        return new VmdkHeader
        {
            Version = header.Version,
            Flags = VmdkFlags.None,
            Capacity = capacity,
            GrainSize = (int)grain * VmdkLayout.SectorSize,
            EntriesPerTable = VmdkLayout.CowdTableEntries,
            DirectoryEntries = (int)entries,
            DirectoryOffset = (long)header.DirectoryOffset.Value * VmdkLayout.SectorSize,
            RedundantDirectoryOffset = 0,
            DescriptorOffset = 0,
            DescriptorSize = 0,
            IsUnclean = unclean != 0,
            HasFooter = false,
            HeaderSize = VmdkLayout.CowdHeaderSize,
            UncleanOffset = VmdkLayout.CowdUncleanOffset,
            UncleanSize = sizeof(uint),
            FreeOffset = (long)header.FreeSector.Value * VmdkLayout.SectorSize,
            IsChild = isChild,
            ParentFileName = isChild ? ParentName(bytes) : null,
        };
    }

    private static string? ParentName(ReadOnlySpan<byte> header)
    {
        ReadOnlySpan<byte> name = header.Slice(VmdkLayout.CowdParentOffset, VmdkLayout.CowdParentLength);
        int end = name.IndexOf((byte)0);
        return end == 0 ? null : Encoding.UTF8.GetString(end < 0 ? name : name[..end]);
    }
}
