using System.Globalization;
using System.Numerics;
using ImageMount.Core.Bits;
using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Volume;

/// <summary>
/// Where things are on a FAT volume, read from its boot sector and checked against its size ("Boot Sector and BPB
/// Structure", "FAT Type Determination"). All offsets are bytes of the disk. Immutable; equal when two volumes are
/// laid out alike and have the same id, which is how a volume is recognised that was formatted anew.
/// </summary>
internal sealed record VolumeGeometry
{
    /// <summary>How many bits an entry of the FAT has.</summary>
    public required FatType Type { get; init; }

    /// <summary>Where the volume begins on the disk.</summary>
    public required long Offset { get; init; }

    /// <summary>Bytes of the volume.</summary>
    public required long Length { get; init; }

    /// <summary>Bytes of a cluster.</summary>
    public required int ClusterSize { get; init; }

    /// <summary>Where the first FAT begins.</summary>
    public required long FatOffset { get; init; }

    /// <summary>Bytes of one FAT.</summary>
    public required long FatLength { get; init; }

    /// <summary>Number of FATs.</summary>
    public required int FatCount { get; init; }

    /// <summary>The one that is in use, or -1 when all are kept alike.</summary>
    public required int ActiveFat { get; init; }

    /// <summary>Where the root folder of FAT12 and FAT16 begins.</summary>
    public required long RootOffset { get; init; }

    /// <summary>Bytes of that; 0 for FAT32.</summary>
    public required int RootLength { get; init; }

    /// <summary>First cluster of the root folder of FAT32; else 0.</summary>
    public required uint RootCluster { get; init; }

    /// <summary>Where cluster 2 begins.</summary>
    public required long DataOffset { get; init; }

    /// <summary>Number of clusters.</summary>
    public required uint ClusterCount { get; init; }

    /// <summary>Id of the volume.</summary>
    public required uint VolumeId { get; init; }

    /// <summary>BPB_Media.</summary>
    public required byte Media { get; init; }

    /// <summary>Number after the last cluster.</summary>
    public uint EndCluster => ClusterCount + FatLayout.FirstCluster;

    /// <summary>True for the number of a cluster that there is.</summary>
    public bool IsCluster(uint cluster) => cluster >= FatLayout.FirstCluster && cluster < EndCluster;

    /// <summary>Where a cluster begins.</summary>
    public long OffsetOf(uint cluster) => DataOffset + (long)(cluster - FatLayout.FirstCluster) * ClusterSize;

    /// <summary>Clusters that so many bytes take.</summary>
    public long ClustersFor(long bytes) => (bytes + ClusterSize - 1) / ClusterSize;

    /// <summary>Reads a boot sector.</summary>
    /// <param name="sector">The first 512 bytes of the volume.</param>
    /// <param name="offset">Where the volume begins on the disk.</param>
    /// <param name="available">Bytes that there are from there on.</param>
    /// <param name="isDirty">Set when the sector says that the volume is in use or was not unmounted properly.</param>
    /// <param name="problem">What is wrong, when the answer is null.</param>
    public static VolumeGeometry? Parse(
        ReadOnlySpan<byte> sector, long offset, long available, out bool isDirty, out string problem)
    {
        isDirty = false;
        problem = "";
        var reader = new SpanReader(sector);
        if (sector.Length < FatLayout.SectorSize || !reader.TryRead(out BiosParameterBlock bpb)
            || !reader.TrySeek(FatLayout.BootSignatureOffset) || !reader.TryRead(out Le16 signature))
        {
            problem = "the boot sector is cut off";
            return null;
        }

        if (signature != FatLayout.BootSignature)
        {
            problem = string.Create(
                CultureInfo.InvariantCulture, $"the boot sector ends in 0x{signature.Value:x4} instead of 0xaa55");
            return null;
        }

        int sectorSize = bpb.BytesPerSector;
        if (!BitOperations.IsPow2(sectorSize) || sectorSize is < 512 or > 4096
            || !BitOperations.IsPow2((int)bpb.SectorsPerCluster) || bpb.ReservedSectors == 0
            || bpb.FatCount is 0 or > 4)
        {
            problem = string.Create(
                CultureInfo.InvariantCulture,
                $"the boot sector is no FAT's: {sectorSize} bytes a sector, {bpb.SectorsPerCluster} sectors a cluster, "
                + $"{bpb.ReservedSectors.Value} reserved, {bpb.FatCount} FATs");
            return null;
        }

        return Parse(sector, bpb, offset, available, out isDirty, out problem);
    }

    private static VolumeGeometry? Parse(
        ReadOnlySpan<byte> sector, BiosParameterBlock bpb, long offset, long available, out bool isDirty,
        out string problem)
    {
        problem = "";
        int sectorSize = bpb.BytesPerSector;
        var reader = new SpanReader(sector);
        reader.TryRead(out BootSector32 wide);
        reader = new SpanReader(sector);
        reader.TryRead(out BootSector16 narrow);
        bool isWide = bpb.SectorsPerFat16 == 0;
        ExtendedBootRecord extended = isWide ? wide.Extended : narrow.Extended;
        isDirty = (extended.Flags & 1) != 0;
        long fatSectors = isWide ? wide.SectorsPerFat : bpb.SectorsPerFat16;
        long totalSectors = bpb.TotalSectors16 != 0 ? bpb.TotalSectors16 : bpb.TotalSectors32;
        long rootBytes = (long)bpb.RootEntries * FatLayout.DirectoryEntrySize;
        long rootSectors = (rootBytes + sectorSize - 1) / sectorSize;
        long dataSector = bpb.ReservedSectors + bpb.FatCount * fatSectors + rootSectors;
        if (fatSectors == 0 || totalSectors * sectorSize > available || dataSector >= totalSectors)
        {
            problem = string.Create(
                CultureInfo.InvariantCulture,
                $"the sizes in the boot sector do not fit: {totalSectors} sectors of which {dataSector} are before the "
                + $"data, in {available} bytes");
            return null;
        }

        long clusters = (totalSectors - dataSector) / bpb.SectorsPerCluster;
        FatType type = FatLayout.TypeOf((uint)Math.Min(clusters, uint.MaxValue));
        if (clusters is 0 or > FatLayout.MaxClusters32 || (type == FatType.Fat32) != isWide
            || fatSectors * sectorSize < FatLayout.FatBytes(type, clusters)
            || (type != FatType.Fat32 && rootBytes == 0)
            || (long)bpb.SectorsPerCluster * sectorSize > 64 << 10)
        {
            problem = string.Create(
                CultureInfo.InvariantCulture,
                $"the boot sector contradicts itself: {clusters} clusters of {bpb.SectorsPerCluster * sectorSize} "
                + $"bytes, {fatSectors} sectors for each FAT, {bpb.RootEntries.Value} entries in the root folder");
            return null;
        }

        bool oneFat = isWide && (wide.FatFlags & 0x80) != 0;
        int active = oneFat ? wide.FatFlags & 0x0f : -1;
        if (active >= bpb.FatCount || (isWide && (wide.RootCluster < 2 || wide.RootCluster >= clusters + 2)))
        {
            problem = string.Create(
                CultureInfo.InvariantCulture,
                $"the boot sector names FAT {active} of {bpb.FatCount} and root cluster {wide.RootCluster.Value}");
            return null;
        }

        return new VolumeGeometry
        {
            Type = type,
            Offset = offset,
            Length = totalSectors * sectorSize,
            ClusterSize = bpb.SectorsPerCluster * sectorSize,
            FatOffset = offset + bpb.ReservedSectors * (long)sectorSize,
            FatLength = fatSectors * sectorSize,
            FatCount = bpb.FatCount,
            ActiveFat = active,
            RootOffset = offset + (bpb.ReservedSectors + bpb.FatCount * fatSectors) * sectorSize,
            RootLength = (int)rootBytes,
            RootCluster = isWide ? wide.RootCluster : 0,
            DataOffset = offset + dataSector * sectorSize,
            ClusterCount = (uint)clusters,
            VolumeId = extended.Signature == FatLayout.ExtendedBootSignature ? extended.VolumeId : 0,
            Media = bpb.Media,
        };
    }
}
