using System.Runtime.InteropServices;
using ImageMount.VirtualFat.Layout;
using ImageMount.VirtualFat.Names;
using ImageMount.VirtualFat.Plan;

namespace ImageMount.VirtualFat.Synthesis;

/// <summary>
/// The sectors before the FATs: partition table, boot sector, FSInfo and their copies. Made once; they are few.
/// </summary>
internal static class ReservedArea
{
    /// <summary>Sectors that FAT32 copies to <see cref="FatLayout.BackupBootSector"/>: boot sector, FSInfo, and one more
    /// with nothing but a signature.</summary>
    private const int CopiedSectors = 3;

    private const byte FixedDrive = 0x80;

    // "Not a bootable disk": INT 18h (no bootable device), then halt for ever.
    private static ReadOnlySpan<byte> BootCode => [0xcd, 0x18, 0xf4, 0xeb, 0xfd];

    /// <summary>The partition table, 512 bytes.</summary>
    public static byte[] MakePartitionTable(FatPlan plan)
    {
        FatGeometry geometry = plan.Geometry;
        byte[] sector = new byte[FatLayout.SectorSize];
        long first = geometry.PartitionOffset / geometry.SectorSize;
        long last = first + geometry.VolumeSectors - 1;
        Chs end = MasterBootRecord.ToChs(last, geometry.Heads, geometry.SectorsPerTrack);
        bool withinChs = last / geometry.SectorsPerTrack / geometry.Heads <= MasterBootRecord.MaxCylinder;
        var entry = new PartitionEntry
        {
            Status = FixedDrive,
            First = MasterBootRecord.ToChs(first, geometry.Heads, geometry.SectorsPerTrack),
            Type = MasterBootRecord.TypeOf(geometry.Type, geometry.VolumeSectors, withinChs),
            Last = end,
            FirstSector = (uint)first,
            SectorCount = (uint)geometry.VolumeSectors,
        };
        BootCode.CopyTo(sector);
        MemoryMarshal.Write(sector.AsSpan(MasterBootRecord.DiskIdOffset), new Core.Bits.Le32(plan.Volume.DiskId));
        MemoryMarshal.Write(sector.AsSpan(MasterBootRecord.TableOffset), in entry);
        Sign(sector);
        return sector;
    }

    /// <summary>The first sectors of the volume, up to the last that is not empty.</summary>
    public static byte[] MakeBootSectors(FatPlan plan)
    {
        if (plan.Geometry.Type != FatType.Fat32)
        {
            return MakeBootSector16(plan);
        }

        const int Size = CopiedSectors * FatLayout.SectorSize;
        byte[] area = new byte[FatLayout.BackupBootSector * FatLayout.SectorSize + Size];
        MakeBootSector32(plan, area);
        MakeFsInfo(plan, area.AsSpan(FatLayout.FsInfoSector * FatLayout.SectorSize));
        Sign(area.AsSpan((CopiedSectors - 1) * FatLayout.SectorSize));
        area.AsSpan(0, Size).CopyTo(area.AsSpan(FatLayout.BackupBootSector * FatLayout.SectorSize));
        return area;
    }

    private static byte[] MakeBootSector16(FatPlan plan)
    {
        byte[] sector = new byte[FatLayout.SectorSize];
        int codeAt = Marshal.SizeOf<BootSector16>();
        var boot = new BootSector16
        {
            Bpb = CommonOf(plan.Geometry, codeAt),
            Extended = ExtendedOf(plan, plan.Geometry.Type == FatType.Fat12 ? "FAT12   "u8 : "FAT16   "u8),
        };
        boot.Bpb.SectorsPerFat16 = (ushort)plan.Geometry.SectorsPerFat;
        MemoryMarshal.Write(sector, in boot);
        BootCode.CopyTo(sector.AsSpan(codeAt));
        Sign(sector);
        return sector;
    }

    private static void MakeBootSector32(FatPlan plan, Span<byte> sector)
    {
        int codeAt = Marshal.SizeOf<BootSector32>();
        var boot = new BootSector32
        {
            Bpb = CommonOf(plan.Geometry, codeAt),
            SectorsPerFat = (uint)plan.Geometry.SectorsPerFat,
            RootCluster = plan.Entries[0].FirstCluster,
            FsInfoSector = FatLayout.FsInfoSector,
            BackupBootSector = FatLayout.BackupBootSector,
            Extended = ExtendedOf(plan, "FAT32   "u8),
        };
        MemoryMarshal.Write(sector, in boot);
        BootCode.CopyTo(sector[codeAt..]);
        Sign(sector);
    }

    private static BiosParameterBlock CommonOf(FatGeometry geometry, int codeAt)
    {
        bool isLarge = geometry.Type == FatType.Fat32 || geometry.VolumeSectors > ushort.MaxValue;
        var bpb = new BiosParameterBlock
        {
            Jump0 = 0xeb,
            Jump1 = (byte)(codeAt - 2),
            Jump2 = 0x90,
            BytesPerSector = (ushort)geometry.SectorSize,
            SectorsPerCluster = (byte)geometry.SectorsPerCluster,
            ReservedSectors = (ushort)geometry.ReservedSectors,
            FatCount = (byte)geometry.FatCount,
            RootEntries = (ushort)geometry.RootEntries,
            TotalSectors16 = isLarge ? (ushort)0 : (ushort)geometry.VolumeSectors,
            Media = geometry.Media,
            SectorsPerTrack = (ushort)geometry.SectorsPerTrack,
            Heads = (ushort)geometry.Heads,
            HiddenSectors = (uint)(geometry.PartitionOffset / geometry.SectorSize),
            TotalSectors32 = isLarge ? (uint)geometry.VolumeSectors : 0,
        };

        // The name that the specification recommends, because some drivers look at it.
        "MSWIN4.1"u8.CopyTo(bpb.OemName);
        return bpb;
    }

    private static ExtendedBootRecord ExtendedOf(FatPlan plan, ReadOnlySpan<byte> typeName)
    {
        var record = new ExtendedBootRecord
        {
            DriveNumber = plan.Geometry.IsFloppy ? (byte)0 : FixedDrive,
            Signature = FatLayout.ExtendedBootSignature,
            VolumeId = plan.Volume.SerialNumber,
        };
        (plan.Volume.Label ?? ShortName83.FromBytes("NO NAME    "u8)).CopyTo(record.Label);
        typeName.CopyTo(record.TypeName);
        return record;
    }

    private static void MakeFsInfo(FatPlan plan, Span<byte> sector)
    {
        uint free = plan.Geometry.ClusterCount - plan.UsedClusters;
        var info = new FsInfo
        {
            Lead = FsInfo.LeadSignature,
            Structure = FsInfo.StructureSignature,
            FreeClusters = free,
            NextFree = free == 0 ? FsInfo.Unknown : plan.FirstFreeCluster,
            Trail = FsInfo.TrailSignature,
        };
        MemoryMarshal.Write(sector, in info);
    }

    private static void Sign(Span<byte> sector) =>
        MemoryMarshal.Write(
            sector[FatLayout.BootSignatureOffset..], new Core.Bits.Le16(FatLayout.BootSignature));
}
