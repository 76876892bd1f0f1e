namespace ImageMount.VirtualFat.Layout;

/// <summary>
/// On-disk constants of FAT12, FAT16 and FAT32 (Microsoft, "FAT32 File System Specification", version 1.03, December
/// 2000, "the specification" in this folder; ECMA-107 says the same of FAT12 and FAT16). All numbers are little-endian.
/// </summary>
internal static class FatLayout
{
    /// <summary>Bytes of a sector; the only size that we make.</summary>
    public const int SectorSize = 512;

    /// <summary>Last two bytes of a boot sector ("Signature_word").</summary>
    public const ushort BootSignature = 0xaa55;

    /// <summary>Where that stands in the sector.</summary>
    public const int BootSignatureOffset = 510;

    /// <summary>BS_BootSig: volume id, label and type string are there.</summary>
    public const byte ExtendedBootSignature = 0x29;

    /// <summary>Copies of the FAT that we make.</summary>
    public const int FatCount = 2;

    /// <summary>BPB_Media and the low byte of FAT[0] of a fixed disk.</summary>
    public const byte FixedMedia = 0xf8;

    /// <summary>The same of a 1.44 MB and a 2.88 MB floppy.</summary>
    public const byte Floppy18Media = 0xf0;

    /// <summary>The same of a 1.2 MB floppy.</summary>
    public const byte Floppy15Media = 0xf9;

    /// <summary>First cluster of the data region; FAT[0] and FAT[1] are reserved.</summary>
    public const uint FirstCluster = 2;

    /// <summary>Fewer clusters than this are FAT12 ("FAT Type Determination").</summary>
    public const uint MinClusters16 = 4085;

    /// <summary>Fewer clusters than this are FAT16, this many and more FAT32.</summary>
    public const uint MinClusters32 = 65525;

    /// <summary>
    /// How far a volume stays away from those borders: the specification advises at least 16 clusters, because other
    /// programs count slightly wrong.
    /// </summary>
    public const uint BorderMargin = 16;

    /// <summary>Most clusters of FAT32: numbers from 0x0ffffff7 on have a meaning of their own.</summary>
    public const uint MaxClusters32 = 0x0fff_fff5;

    /// <summary>Bits of a FAT32 entry that are its value; the others are kept as they are.</summary>
    public const uint Mask32 = 0x0fff_ffff;

    /// <summary>FAT[1] of FAT16: set while the volume was unmounted properly ("ClnShutBitMask").</summary>
    public const uint CleanShutdown16 = 0x8000;

    /// <summary>FAT[1] of FAT16: set while no disk error was met ("HrdErrBitMask").</summary>
    public const uint NoHardError16 = 0x4000;

    /// <summary>The same of FAT32.</summary>
    public const uint CleanShutdown32 = 0x0800_0000;

    /// <summary>The same of FAT32.</summary>
    public const uint NoHardError32 = 0x0400_0000;

    /// <summary>Largest cluster, bytes; larger ones are not portable ("BPB_SecPerClus").</summary>
    public const int MaxClusterSize = 32 << 10;

    /// <summary>Most bytes of a directory: 65536 entries ("FAT Directory Structure").</summary>
    public const int MaxDirectorySize = 65536 * DirectoryEntrySize;

    /// <summary>Bytes of a directory entry.</summary>
    public const int DirectoryEntrySize = 32;

    /// <summary>Most bytes of a file: its size has 32 bits.</summary>
    public const long MaxFileSize = uint.MaxValue;

    /// <summary>Sector of FAT32's FSInfo ("BPB_FSInfo"), counted from the boot sector.</summary>
    public const ushort FsInfoSector = 1;

    /// <summary>Sector of the copy of the first three sectors of FAT32 ("BPB_BkBootSec").</summary>
    public const ushort BackupBootSector = 6;

    /// <summary>Reserved sectors of FAT32 that everybody makes ("BPB_RsvdSecCnt").</summary>
    public const int DefaultReserved32 = 32;

    /// <summary>Entries of the root folder of FAT12 and FAT16 on a fixed disk that everybody makes.</summary>
    public const int DefaultRootEntries = 512;

    /// <summary>Most sectors of a volume: BPB_TotSec32 has 32 bits.</summary>
    public const long MaxSectors = uint.MaxValue;

    /// <summary>Value that ends a chain.</summary>
    public static uint EndOfChain(FatType type) => type switch
    {
        FatType.Fat12 => 0xfff,
        FatType.Fat16 => 0xffff,
        _ => 0x0fff_ffff,
    };

    /// <summary>Values from this one on end a chain.</summary>
    public static uint MinEndOfChain(FatType type) => EndOfChain(type) & ~7u;

    /// <summary>Value of a cluster that cannot be used.</summary>
    public static uint BadCluster(FatType type) => EndOfChain(type) & ~8u;

    /// <summary>Bytes of a FAT with entries for so many clusters; FAT12 packs two entries into three bytes.</summary>
    public static long FatBytes(FatType type, long clusters) => type switch
    {
        FatType.Fat12 => ((clusters + FirstCluster) * 3 + 1) / 2,
        FatType.Fat16 => (clusters + FirstCluster) * 2,
        _ => (clusters + FirstCluster) * 4,
    };

    /// <summary>The type that a volume of so many clusters has ("FAT Type Determination"): nothing else decides.</summary>
    public static FatType TypeOf(uint clusters) => clusters switch
    {
        < MinClusters16 => FatType.Fat12,
        < MinClusters32 => FatType.Fat16,
        _ => FatType.Fat32,
    };
}

/// <summary>How many bits an entry of the FAT has.</summary>
internal enum FatType : byte
{
    /// <summary>FAT12.</summary>
    Fat12 = 12,

    /// <summary>FAT16.</summary>
    Fat16 = 16,

    /// <summary>FAT32 (28 of them used).</summary>
    Fat32 = 32,
}
