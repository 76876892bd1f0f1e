using System.Globalization;
using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Parallels;

/// <summary>The facts of a header that was checked.</summary>
internal sealed record ParallelsHeader
{
    /// <summary>Entries count clusters, not sectors.</summary>
    public required bool IsVersion2 { get; init; }

    /// <summary>Size of the disk, bytes.</summary>
    public required long DiskSize { get; init; }

    /// <summary>Bytes of a cluster.</summary>
    public required int ClusterSize { get; init; }

    /// <summary>Entries of the table.</summary>
    public required int Entries { get; init; }

    /// <summary>"in_use" as it was read.</summary>
    public required uint InUse { get; init; }

    /// <summary>Where clusters begin.</summary>
    public required long DataOffset { get; init; }

    /// <summary>Where the format extension is; 0 for none.</summary>
    public required long ExtensionOffset { get; init; }

    /// <summary>True when somebody did not close the image.</summary>
    public bool IsUnclean => InUse == ParallelsLayout.InUse;

    /// <summary>True when these bytes begin an image.</summary>
    public static bool HasMagic(ReadOnlySpan<byte> head) =>
        head.StartsWith(ParallelsLayout.MagicV1) || head.StartsWith(ParallelsLayout.MagicV2);

    /// <summary>Reads and checks the header.</summary>
    public static async ValueTask<ParallelsHeader> ReadAsync(BlockNode file, CancellationToken cancellationToken)
    {
        int count = (int)Math.Min(file.Length, ParallelsLayout.HeaderSize);
        using BufferLease head = BufferPool.Shared.Rent(ParallelsLayout.HeaderSize);
        await file.ReadAsync(0, head.Memory[..count], cancellationToken).ConfigureAwait(false);
        return Parse(head.Span[..count], file.Length);
    }

    /// <summary>What the engine has to know.</summary>
    public BlockTableLayout MakeLayout(BlockNode file) => new()
    {
        Node = file,
        UnitName = "cluster",
        Length = DiskSize,
        UnitSize = ClusterSize,
        TableOffset = ParallelsLayout.HeaderSize,
        Entries = Entries,
        EntryScale = IsVersion2 ? ClusterSize : ParallelsLayout.SectorSize,
        FreeEntry = ParallelsLayout.FreeCluster,
        MaxEntry = uint.MaxValue,
        Reserved = [(0, ParallelsLayout.HeaderSize + (Entries * 4L))],
    };

    private static ParallelsHeader Parse(ReadOnlySpan<byte> head, long length)
    {
        var reader = new SpanReader(head);
        if (!HasMagic(head) || !reader.TrySeek(16) || !reader.TryRead(out ParallelsRawHeader raw))
        {
            throw BlockException.Invalid("this is not a Parallels image", 0);
        }

        if (raw.Version != ParallelsLayout.Version)
        {
            throw BlockException.Unsupported($"version {raw.Version} of Parallels images is not supported");
        }

        bool isVersion2 = head.StartsWith(ParallelsLayout.MagicV2);
        if (raw.ClusterSectors == 0
            || raw.ClusterSectors > BlockTableLayout.MaxUnitSize / ParallelsLayout.SectorSize)
        {
            throw BlockException.Invalid(
                "the cluster size is impossible", 28, $"{raw.ClusterSectors} sectors",
                $"1…{BlockTableLayout.MaxUnitSize / ParallelsLayout.SectorSize}");
        }

        if (raw.Entries > BlockTableLayout.MaxEntries)
        {
            throw BlockException.Limit("the cluster table is too large", raw.Entries, BlockTableLayout.MaxEntries, 32);
        }

        // The upper half of the disk's size belongs to version 2; version 1 has been seen with anything there.
        ulong sectors = isVersion2 ? raw.Sectors.Value : raw.Sectors.Value & uint.MaxValue;
        if (sectors > long.MaxValue / ParallelsLayout.SectorSize)
        {
            throw BlockException.Invalid(
                "the disk's size is impossible", 36, sectors.ToString(CultureInfo.InvariantCulture) + " sectors");
        }

        ulong extension = isVersion2 ? raw.ExtensionSector.Value : 0;
        if (extension > (ulong)length / ParallelsLayout.SectorSize)
        {
            throw BlockException.Invalid(
                "the format extension lies outside the file", ParallelsLayout.ExtensionOffset, $"sector {extension}");
        }

        long tableEnd = (ParallelsLayout.HeaderSize + (raw.Entries * 4L) + 511) / 512 * 512;
        return new ParallelsHeader
        {
            IsVersion2 = isVersion2,
            DiskSize = (long)sectors * ParallelsLayout.SectorSize,
            ClusterSize = (int)raw.ClusterSectors.Value * ParallelsLayout.SectorSize,
            Entries = (int)raw.Entries.Value,
            InUse = raw.InUse,
            DataOffset = Math.Max(tableEnd, (long)raw.DataSector.Value * ParallelsLayout.SectorSize),
            ExtensionOffset = (long)extension * ParallelsLayout.SectorSize,
        };
    }
}
