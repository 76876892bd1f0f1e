using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Plan;

/// <summary>
/// Where everything is on the disk. Offsets are bytes from the start of the disk, the partition table included, unless
/// they say otherwise. Immutable, and consistent: <see cref="GeometryChooser"/> is the only maker.
/// </summary>
internal sealed record FatGeometry
{
    /// <summary>FAT12, FAT16 or FAT32; what <see cref="ClusterCount"/> says.</summary>
    public required FatType Type { get; init; }

    /// <summary>Bytes of a sector, always 512.</summary>
    public int SectorSize => FatLayout.SectorSize;

    /// <summary>A power of two, 1…128.</summary>
    public required int SectorsPerCluster { get; init; }

    /// <summary>Sectors from the boot sector to the first FAT.</summary>
    public required int ReservedSectors { get; init; }

    /// <summary>Copies of the FAT.</summary>
    public required int FatCount { get; init; }

    /// <summary>Sectors of one FAT.</summary>
    public required long SectorsPerFat { get; init; }

    /// <summary>Entries of the root folder; 0 for FAT32, where it is a chain of clusters like any other.</summary>
    public required int RootEntries { get; init; }

    /// <summary>Clusters of the data region; their numbers are 2…<see cref="LastCluster"/>.</summary>
    public required uint ClusterCount { get; init; }

    /// <summary>Sectors of the volume, from the boot sector on.</summary>
    public required long VolumeSectors { get; init; }

    /// <summary>First byte of the volume on the disk: 0 without a partition table.</summary>
    public required long PartitionOffset { get; init; }

    /// <summary>Bytes of the disk.</summary>
    public required long TotalBytes { get; init; }

    /// <summary>BPB_Media.</summary>
    public required byte Media { get; init; }

    /// <summary>Of the CHS geometry, 1…63.</summary>
    public required int SectorsPerTrack { get; init; }

    /// <summary>Of the CHS geometry, 1…255.</summary>
    public required int Heads { get; init; }

    /// <summary>A floppy: drive number 0, no partition table.</summary>
    public bool IsFloppy => Media != FatLayout.FixedMedia;

    /// <summary>True when there is a partition table before the volume.</summary>
    public bool IsPartitioned => PartitionOffset > 0;

    /// <summary>Bytes of a cluster.</summary>
    public int ClusterSize => SectorsPerCluster * SectorSize;

    /// <summary>The largest cluster number that exists.</summary>
    public uint LastCluster => ClusterCount + FatLayout.FirstCluster - 1;

    /// <summary>Bytes of one FAT, unused room at its end included.</summary>
    public long FatSize => SectorsPerFat * SectorSize;

    /// <summary>First byte of the fixed root folder of FAT12 and FAT16; for FAT32 the same as
    /// <see cref="DataOffset"/>.</summary>
    public long RootOffset => FatOffset(FatCount);

    /// <summary>First sector of cluster 2, counted from the boot sector of the volume.</summary>
    public long FirstDataSector => (DataOffset - PartitionOffset) / SectorSize;

    /// <summary>First byte of cluster 2.</summary>
    public long DataOffset =>
        RootOffset + (RootEntries * FatLayout.DirectoryEntrySize + SectorSize - 1) / SectorSize * SectorSize;

    /// <summary>First byte behind the last cluster; what may follow belongs to no cluster.</summary>
    public long DataEnd => DataOffset + (long)ClusterCount * ClusterSize;

    /// <summary>First byte of a copy of the FAT, 0…<see cref="FatCount"/> (which is behind the last).</summary>
    public long FatOffset(int copy) => PartitionOffset + (ReservedSectors + copy * SectorsPerFat) * SectorSize;

    /// <summary>First byte of a cluster, 2…<see cref="LastCluster"/>.</summary>
    public long ClusterOffset(uint cluster) => DataOffset + (long)(cluster - FatLayout.FirstCluster) * ClusterSize;

    /// <summary>The cluster that a byte of the disk belongs to; false when it belongs to none.</summary>
    public bool TryGetCluster(long offset, out uint cluster)
    {
        if (offset < DataOffset || offset >= DataEnd)
        {
            cluster = 0;
            return false;
        }

        cluster = (uint)((offset - DataOffset) / ClusterSize) + FatLayout.FirstCluster;
        return true;
    }

    /// <summary>Clusters that so many bytes take.</summary>
    public uint ClustersFor(long bytes) => (uint)((bytes + ClusterSize - 1) / ClusterSize);
}
