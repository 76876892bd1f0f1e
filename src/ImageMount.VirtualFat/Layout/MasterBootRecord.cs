using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.VirtualFat.Layout;

/// <summary>The partition table of a disk with one partition: the DOS boot record, 512 bytes.</summary>
internal static class MasterBootRecord
{
    /// <summary>Where the four entries begin.</summary>
    public const int TableOffset = 446;

    /// <summary>Where the 32-bit id of the disk stands, which Windows and Linux know disks by.</summary>
    public const int DiskIdOffset = 440;

    /// <summary>Largest cylinder that an entry can say.</summary>
    public const int MaxCylinder = 1023;

    /// <summary>The type byte of a partition: FAT12; FAT16 below 32 MiB, else with LBA; FAT32 with LBA.</summary>
    public static byte TypeOf(FatType type, long sectors, bool withinChs) => type switch
    {
        FatType.Fat12 => 0x01,
        FatType.Fat16 when sectors < 65536 => 0x04,
        FatType.Fat16 => withinChs ? (byte)0x06 : (byte)0x0e,
        _ => withinChs ? (byte)0x0b : (byte)0x0c,
    };

    /// <summary>Cylinder, head and sector as three bytes; what CHS cannot say is 1023/254/63.</summary>
    public static Chs ToChs(long sector, int heads, int sectorsPerTrack)
    {
        long cylinder = sector / sectorsPerTrack / heads;
        return cylinder > MaxCylinder
            ? Chs.Pack(MaxCylinder, 254, 63)
            : Chs.Pack((int)cylinder, (int)(sector / sectorsPerTrack % heads), (int)(sector % sectorsPerTrack) + 1);
    }
}

/// <summary>A place on a disk by cylinder, head and sector.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct Chs(byte Head, byte SectorAndHighCylinder, byte LowCylinder)
{
    /// <summary>Cylinder 0…1023.</summary>
    public int Cylinder => LowCylinder | (SectorAndHighCylinder & 0xc0) << 2;

    /// <summary>Sector 1…63.</summary>
    public int Sector => SectorAndHighCylinder & 0x3f;

    /// <summary>Packs the three.</summary>
    public static Chs Pack(int cylinder, int head, int sector) =>
        new((byte)head, (byte)(sector | cylinder >> 2 & 0xc0), (byte)cylinder);
}

/// <summary>An entry of the table, 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct PartitionEntry
{
    /// <summary>0x80: the one that is booted from.</summary>
    public byte Status;
    public Chs First;
    public byte Type;
    public Chs Last;
    public Le32 FirstSector;
    public Le32 SectorCount;
}
