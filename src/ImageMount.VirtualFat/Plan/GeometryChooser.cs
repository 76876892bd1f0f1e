using ImageMount.Core.Block;
using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Plan;

/// <summary>What a folder needs of a volume.</summary>
/// <param name="ClustersFor">Clusters of everything but the root folder, by the size of a cluster in bytes.</param>
/// <param name="RootEntries">Entries of the root folder, parts of long names and the label counted.</param>
internal readonly record struct SpaceNeeded(Func<int, long> ClustersFor, long RootEntries)
{
    /// <summary>Clusters with the root folder, which FAT32 keeps in clusters too.</summary>
    public long Clusters(FatType type, int clusterSize) => ClustersFor(clusterSize)
        + (type != FatType.Fat32 ? 0
            : Math.Max(1, (RootEntries * FatLayout.DirectoryEntrySize + clusterSize - 1) / clusterSize));
}

/// <summary>
/// Chooses type, size of cluster and size of the volume. The number of clusters decides the type, so a volume of a type
/// has its number of clusters within that type's range, 16 away from its ends, as the specification advises.
/// </summary>
/// <remarks>
/// Without a size the disk gets what the folder takes, and as free space an eighth of that, at least 64 MiB. Without a
/// type it is FAT32 over 512 MiB or when the root folder has more than 512 entries, else FAT16, and FAT12 where that is
/// too large. The size of a cluster is the one that the specification gives for the size of the volume, or the nearest
/// with which everything fits.
/// </remarks>
internal static class GeometryChooser
{
    /// <summary>First sector of the partition: 1 MiB, as everybody aligns them.</summary>
    public const int PartitionStart = 2048;

    private const long Mebibyte = 1 << 20;
    private const long MinFree = 64 * Mebibyte;
    private const long MaxAuto16 = 512 * Mebibyte;
    private const int SectorsPerTrack = 63;
    private const int MaxRootEntries = 65520;
    private const int RootEntriesPerSector = FatLayout.SectorSize / FatLayout.DirectoryEntrySize;
    private const int MaxSectorsPerCluster = FatLayout.MaxClusterSize / FatLayout.SectorSize;
    private const int DataAlignment = 4096;

    /// <summary>The geometry for a folder; a BlockException when it does not fit.</summary>
    public static FatGeometry Choose(VirtualFatOptions options, SpaceNeeded needed)
    {
        CheckTogether(options);
        if (options.Floppy)
        {
            return FloppyGeometry.Choose(options, needed);
        }

        FatType[] types = options.FatType is { } asked ? [(FatType)asked] : AutoTypes(options, needed);
        foreach (FatType type in types)
        {
            FatGeometry? found = options.Size is { } size
                ? WithSize(type, size, options.Partitioned, needed)
                : WithoutSize(type, options.Partitioned, needed);
            if (found is not null)
            {
                return found;
            }
        }

        throw DoesNotFit(options, types, needed);
    }

    /// <summary>Sectors of a FAT for a volume: the fewest that have an entry for every cluster.</summary>
    public static (long SectorsPerFat, long Clusters) Divide(
        FatType type, long volumeSectors, int reserved, int rootSectors, int sectorsPerCluster)
    {
        long ClustersWith(long fat) =>
            Math.Max(0, (volumeSectors - reserved - rootSectors - FatLayout.FatCount * fat) / sectorsPerCluster);
        long FatFor(long clusters) =>
            (FatLayout.FatBytes(type, clusters) + FatLayout.SectorSize - 1) / FatLayout.SectorSize;

        // Too large at first; then as small as it can be.
        long fat = FatFor(ClustersWith(0));
        fat = FatFor(ClustersWith(fat));
        while (FatFor(ClustersWith(fat)) > fat)
        {
            fat++;
        }

        while (fat > 1 && FatFor(ClustersWith(fat - 1)) <= fat - 1)
        {
            fat--;
        }

        return (fat, ClustersWith(fat));
    }

    /// <summary>Fewest clusters of a type.</summary>
    public static long MinClusters(FatType type) => type switch
    {
        FatType.Fat12 => 1,
        FatType.Fat16 => FatLayout.MinClusters16 + FatLayout.BorderMargin,
        _ => FatLayout.MinClusters32 + FatLayout.BorderMargin,
    };

    /// <summary>Most clusters of a type.</summary>
    public static long MaxClusters(FatType type) => type switch
    {
        FatType.Fat12 => FatLayout.MinClusters16 - 1 - FatLayout.BorderMargin,
        FatType.Fat16 => FatLayout.MinClusters32 - 1 - FatLayout.BorderMargin,
        _ => FatLayout.MaxClusters32 - FatLayout.BorderMargin,
    };

    /// <summary>The error for a folder that is too large for its disk.</summary>
    public static BlockException Full(string what, long needed, string hint) =>
        new(BlockErrorKind.NoSpace, $"the folder does not fit on {what}: it takes {needed >> 10} KiB") { Hint = hint };

    /// <summary>Sectors per cluster that the specification gives for a volume ("Format utility tables").</summary>
    public static int DefaultSectorsPerCluster(FatType type, long volumeBytes) => type switch
    {
        FatType.Fat12 => Pick(volumeBytes, [(2, 1), (4, 2), (8, 4), (16, 8), (32, 16), (64, 32)]),
        FatType.Fat16 => Pick(volumeBytes, [(16, 2), (128, 4), (256, 8), (512, 16), (1024, 32)]),
        _ => Pick(volumeBytes, [(260, 1), (8192, 8), (16384, 16), (32768, 32)]),
    };

    private static int Pick(long bytes, ReadOnlySpan<(int Mebibytes, int Sectors)> rows)
    {
        foreach ((int mebibytes, int sectors) in rows)
        {
            if (bytes <= mebibytes * Mebibyte)
            {
                return sectors;
            }
        }

        return MaxSectorsPerCluster;
    }

    private static void CheckTogether(VirtualFatOptions options)
    {
        string? wrong = options switch
        {
            { Floppy: false, FloppySize: not null } => "'floppy-size' is for 'floppy=on'",
            { Floppy: true, Size: not null } => "a floppy has the size that 'floppy-size' says, not 'size'",
            { Floppy: true, FatType: FatTypeOption.Fat32 } => "a floppy is too small for FAT32",
            _ => null,
        };
        if (wrong is not null)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, wrong);
        }
    }

    private static FatType[] AutoTypes(VirtualFatOptions options, SpaceNeeded needed)
    {
        long bytes = options.Size ?? WithFree(needed.ClustersFor(DataAlignment) * DataAlignment);
        return bytes > MaxAuto16 ? [FatType.Fat32, FatType.Fat16]
            : needed.RootEntries > FatLayout.DefaultRootEntries ? [FatType.Fat32, FatType.Fat16, FatType.Fat12]
            : [FatType.Fat16, FatType.Fat12, FatType.Fat32];
    }

    private static long WithFree(long bytes) => bytes + Math.Max(MinFree, bytes / 8);

    /// <summary>The size of cluster that suits, then smaller ones, which waste less, then larger ones.</summary>
    private static IEnumerable<int> Candidates(FatType type, long volumeBytes)
    {
        int suits = DefaultSectorsPerCluster(type, volumeBytes);
        for (int sectors = suits; sectors >= 1; sectors /= 2)
        {
            yield return sectors;
        }

        for (int sectors = suits * 2; sectors <= MaxSectorsPerCluster; sectors *= 2)
        {
            yield return sectors;
        }
    }

    private static FatGeometry? WithSize(FatType type, long size, bool partitioned, SpaceNeeded needed)
    {
        long diskSectors = size / FatLayout.SectorSize;
        long start = partitioned ? PartitionStart : 0;
        long sectors = Math.Min(diskSectors - start, FatLayout.MaxSectors - start);
        sectors -= sectors % SectorsPerTrack;
        if (sectors <= 0)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the disk is too small for a partition table")
            {
                Found = $"{size} bytes",
                Expected = $"more than {PartitionStart * FatLayout.SectorSize}, or 'partitioned=off'",
            };
        }

        foreach (int sectorsPerCluster in Candidates(type, sectors * FatLayout.SectorSize))
        {
            if (TryMake(type, sectors, sectorsPerCluster, start, needed) is { } made)
            {
                return made with { TotalBytes = diskSectors * FatLayout.SectorSize };
            }
        }

        return null;
    }

    private static FatGeometry? WithoutSize(FatType type, bool partitioned, SpaceNeeded needed)
    {
        long start = partitioned ? PartitionStart : 0;
        long likely = WithFree(needed.ClustersFor(DataAlignment) * DataAlignment);
        foreach (int sectorsPerCluster in Candidates(type, likely))
        {
            int clusterSize = sectorsPerCluster * FatLayout.SectorSize;
            long clusters = needed.Clusters(type, clusterSize);
            if (clusters > MaxClusters(type))
            {
                continue;
            }

            clusters = Math.Clamp(
                WithFree(clusters * clusterSize) / clusterSize, MinClusters(type), MaxClusters(type));

            // What the number of clusters takes besides is found by the way back: a few steps at most.
            long sectors = clusters * sectorsPerCluster + Overhead(type, clusters, sectorsPerCluster, needed);
            sectors = Math.Min(sectors, FatLayout.MaxSectors - start);
            sectors -= sectors % SectorsPerTrack;
            for (int step = 0; step < 64 && sectors > 0; step++)
            {
                if (TryMake(type, sectors, sectorsPerCluster, start, needed) is { } made)
                {
                    return made;
                }

                sectors += TooMany(type, sectors, sectorsPerCluster, needed) ? -SectorsPerTrack : SectorsPerTrack;
                if (sectors > FatLayout.MaxSectors - start)
                {
                    break;
                }
            }
        }

        return null;
    }

    private static long Overhead(FatType type, long clusters, int sectorsPerCluster, SpaceNeeded needed) =>
        ReservedFor(type) + RootEntriesFor(type, needed) / RootEntriesPerSector + sectorsPerCluster + SectorsPerTrack
            + FatLayout.FatCount * (FatLayout.FatBytes(type, clusters) / FatLayout.SectorSize + 1);

    private static bool TooMany(FatType type, long sectors, int sectorsPerCluster, SpaceNeeded needed) =>
        Divide(
            type, sectors, ReservedFor(type), RootEntriesFor(type, needed) / RootEntriesPerSector, sectorsPerCluster)
            .Clusters > MaxClusters(type);

    private static int ReservedFor(FatType type) => type == FatType.Fat32 ? FatLayout.DefaultReserved32 : 1;

    private static int RootEntriesFor(FatType type, SpaceNeeded needed)
    {
        if (type == FatType.Fat32)
        {
            return 0;
        }

        // Room for as many more again, so that the disk can be written to.
        long wanted = needed.RootEntries <= FatLayout.DefaultRootEntries / 2
            ? FatLayout.DefaultRootEntries
            : needed.RootEntries * 2;
        wanted = (wanted + RootEntriesPerSector - 1) / RootEntriesPerSector * RootEntriesPerSector;
        return (int)Math.Min(wanted, MaxRootEntries);
    }

    private static FatGeometry? TryMake(
        FatType type, long sectors, int sectorsPerCluster, long start, SpaceNeeded needed)
    {
        int rootEntries = RootEntriesFor(type, needed);
        int rootSectors = rootEntries / RootEntriesPerSector;
        int reserved = ReservedFor(type);
        (long fat, long clusters) = Divide(type, sectors, reserved, rootSectors, sectorsPerCluster);

        // Clusters begin on pages of the disk, so that pages of files are pages of the disk. More reserved sectors leave
        // fewer clusters, for which the FAT is large enough.
        int unit = DataAlignment / FatLayout.SectorSize;
        int beyond = (int)((start + reserved + rootSectors + FatLayout.FatCount * fat) % unit);
        reserved += beyond == 0 ? 0 : unit - beyond;
        clusters = (sectors - reserved - rootSectors - FatLayout.FatCount * fat) / sectorsPerCluster;
        if (clusters < MinClusters(type) || clusters > MaxClusters(type)
            || clusters < needed.Clusters(type, sectorsPerCluster * FatLayout.SectorSize)
            || (type != FatType.Fat32 && (needed.RootEntries > rootEntries || fat > ushort.MaxValue)))
        {
            return null;
        }

        return new FatGeometry
        {
            Type = type,
            SectorsPerCluster = sectorsPerCluster,
            ReservedSectors = reserved,
            FatCount = FatLayout.FatCount,
            SectorsPerFat = fat,
            RootEntries = rootEntries,
            ClusterCount = (uint)clusters,
            VolumeSectors = sectors,
            PartitionOffset = start * FatLayout.SectorSize,
            TotalBytes = (start + sectors) * FatLayout.SectorSize,
            Media = FatLayout.FixedMedia,
            SectorsPerTrack = SectorsPerTrack,
            Heads = HeadsFor(start + sectors),
        };
    }

    /// <summary>Heads as a BIOS translates them: as few as reach the end of the disk in 1024 cylinders.</summary>
    private static int HeadsFor(long diskSectors)
    {
        foreach (int heads in (ReadOnlySpan<int>)[16, 32, 64, 128])
        {
            if (diskSectors <= (MasterBootRecord.MaxCylinder + 1L) * heads * SectorsPerTrack)
            {
                return heads;
            }
        }

        return 255;
    }

    private static BlockException DoesNotFit(VirtualFatOptions options, FatType[] types, SpaceNeeded needed)
    {
        string type = types.Length == 1 ? $"FAT{(int)types[0]}" : "FAT";
        if (types.Length == 1 && types[0] != FatType.Fat32 && needed.RootEntries > MaxRootEntries)
        {
            return BlockException.Limit(
                $"the root folder of {type} has too many entries", needed.RootEntries, MaxRootEntries);
        }

        // The least that it could take, clusters of one sector.
        long takes = needed.Clusters(types[0], FatLayout.SectorSize) * FatLayout.SectorSize;
        if (options.Size is not { } size)
        {
            return Full($"the largest {type} disk", takes, "Take another 'fat-type', or a part of the folder.");
        }

        return takes > size
            ? Full($"a disk of {size} bytes", takes, "Give a larger 'size', or none.")
            : new BlockException(
                BlockErrorKind.InvalidArgument, $"there is no {type} volume of this size that holds the folder")
            {
                Found = $"{size} bytes",
                Hint = "The type is decided by the number of clusters: give another 'size', another 'fat-type', or none.",
            };
    }
}
