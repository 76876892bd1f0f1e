using ImageMount.VirtualFat.Layout;

namespace ImageMount.VirtualFat.Plan;

/// <summary>The floppies of ECMA-107 and their later, larger sister.</summary>
internal static class FloppyGeometry
{
    /// <summary>The floppy for a folder; a BlockException when it does not fit.</summary>
    public static FatGeometry Choose(VirtualFatOptions options, SpaceNeeded needed)
    {
        FatType type = (FatType)(options.FatType ?? FatTypeOption.Fat12);
        FloppySize[] sizes = options.FloppySize is { } asked ? [asked]
            : type == FatType.Fat16 ? [FloppySize.Size2880]
            : [FloppySize.Size1440, FloppySize.Size2880];
        foreach (FloppySize size in sizes)
        {
            FatGeometry made = Make(size, type);
            if (FatLayout.TypeOf(made.ClusterCount) != type)
            {
                throw new Core.Block.BlockException(
                    Core.Block.BlockErrorKind.InvalidArgument, $"this floppy is too small for FAT{(int)type}")
                {
                    Expected = "'floppy-size=2.88M', or 'fat-type=12'",
                };
            }

            if (needed.Clusters(type, made.ClusterSize) <= made.ClusterCount
                && needed.RootEntries <= made.RootEntries)
            {
                return made;
            }
        }

        FatGeometry largest = Make(sizes[^1], type);
        throw needed.RootEntries > largest.RootEntries
            ? Core.Block.BlockException.Limit(
                "the root folder of a floppy has too many entries", needed.RootEntries, largest.RootEntries)
            : GeometryChooser.Full(
                $"a floppy of {largest.TotalBytes >> 10} KiB",
                needed.Clusters(type, largest.ClusterSize) * largest.ClusterSize,
                sizes[^1] == FloppySize.Size2880 ? "Show it as a fixed disk." : "Take 'floppy-size=2.88M'.");
    }

    private static FatGeometry Make(FloppySize size, FatType type)
    {
        (int sectors, int perCluster, int rootEntries, byte media, int perTrack) = size switch
        {
            FloppySize.Size1200 => (2400, 1, 224, FatLayout.Floppy15Media, 15),
            FloppySize.Size1440 => (2880, 1, 224, FatLayout.Floppy18Media, 18),
            _ => (5760, type == FatType.Fat16 ? 1 : 2, 240, FatLayout.Floppy18Media, 36),
        };
        int rootSectors = rootEntries * FatLayout.DirectoryEntrySize / FatLayout.SectorSize;
        (long fat, long clusters) = GeometryChooser.Divide(type, sectors, 1, rootSectors, perCluster);
        return new FatGeometry
        {
            Type = type,
            SectorsPerCluster = perCluster,
            ReservedSectors = 1,
            FatCount = FatLayout.FatCount,
            SectorsPerFat = fat,
            RootEntries = rootEntries,
            ClusterCount = (uint)clusters,
            VolumeSectors = sectors,
            PartitionOffset = 0,
            TotalBytes = (long)sectors * FatLayout.SectorSize,
            Media = media,
            SectorsPerTrack = perTrack,
            Heads = 2,
        };
    }
}
