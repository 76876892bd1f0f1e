using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.VirtualFat.Layout;

/// <summary>8 bytes of text.</summary>
[InlineArray(8)]
internal struct Text8
{
    private byte _first;
}

/// <summary>11 bytes of text.</summary>
[InlineArray(11)]
internal struct Text11
{
    private byte _first;
}

/// <summary>12 bytes.</summary>
[InlineArray(12)]
internal struct Bytes12
{
    private byte _first;
}

/// <summary>The start of every boot sector, 36 bytes ("Boot Sector and BPB Structure").</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct BiosParameterBlock
{
    /// <summary>BS_jmpBoot: jump over the parameters, EB xx 90.</summary>
    public byte Jump0;
    public byte Jump1;
    public byte Jump2;

    /// <summary>BS_OEMName.</summary>
    public Text8 OemName;

    /// <summary>BPB_BytsPerSec.</summary>
    public Le16 BytesPerSector;

    /// <summary>BPB_SecPerClus, a power of two.</summary>
    public byte SectorsPerCluster;

    /// <summary>BPB_RsvdSecCnt: sectors before the first FAT.</summary>
    public Le16 ReservedSectors;

    /// <summary>BPB_NumFATs.</summary>
    public byte FatCount;

    /// <summary>BPB_RootEntCnt; 0 for FAT32.</summary>
    public Le16 RootEntries;

    /// <summary>BPB_TotSec16; 0 when <see cref="TotalSectors32"/> counts, as it always does for FAT32.</summary>
    public Le16 TotalSectors16;

    /// <summary>BPB_Media, also the low byte of FAT[0].</summary>
    public byte Media;

    /// <summary>BPB_FATSz16; 0 for FAT32.</summary>
    public Le16 SectorsPerFat16;

    /// <summary>BPB_SecPerTrk.</summary>
    public Le16 SectorsPerTrack;

    /// <summary>BPB_NumHeads.</summary>
    public Le16 Heads;

    /// <summary>BPB_HiddSec: sectors of the disk before this one.</summary>
    public Le32 HiddenSectors;

    /// <summary>BPB_TotSec32.</summary>
    public Le32 TotalSectors32;
}

/// <summary>What follows it in FAT12 and FAT16 from offset 36, and in FAT32 from offset 64; 26 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct ExtendedBootRecord
{
    /// <summary>BS_DrvNum: 0x80 for a fixed disk, 0 for a floppy.</summary>
    public byte DriveNumber;

    /// <summary>BS_Reserved1; Windows and Linux keep "not clean" (1) and "bad sectors met" (2) here.</summary>
    public byte Flags;

    /// <summary>BS_BootSig.</summary>
    public byte Signature;

    /// <summary>BS_VolID.</summary>
    public Le32 VolumeId;

    /// <summary>BS_VolLab, the same as the label in the root folder, or "NO NAME    ".</summary>
    public Text11 Label;

    /// <summary>BS_FilSysType: "FAT12   " and so on; tells nothing reliably.</summary>
    public Text8 TypeName;
}

/// <summary>The parameters of a FAT12 or FAT16 volume, 62 bytes; code follows.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct BootSector16
{
    public BiosParameterBlock Bpb;
    public ExtendedBootRecord Extended;
}

/// <summary>The parameters of a FAT32 volume, 90 bytes; code follows.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct BootSector32
{
    public BiosParameterBlock Bpb;

    /// <summary>BPB_FATSz32.</summary>
    public Le32 SectorsPerFat;

    /// <summary>BPB_ExtFlags: bit 7: only the FAT of bits 0–3 is in use; 0: all are kept alike.</summary>
    public Le16 FatFlags;

    /// <summary>BPB_FSVer, 0.</summary>
    public Le16 Version;

    /// <summary>BPB_RootClus.</summary>
    public Le32 RootCluster;

    /// <summary>BPB_FSInfo.</summary>
    public Le16 FsInfoSector;

    /// <summary>BPB_BkBootSec.</summary>
    public Le16 BackupBootSector;

    /// <summary>BPB_Reserved.</summary>
    public Bytes12 Reserved;

    public ExtendedBootRecord Extended;
}

/// <summary>FSInfo of FAT32 without its empty middle ("FSInfo Sector Structure").</summary>
[StructLayout(LayoutKind.Explicit, Pack = 1, Size = FatLayout.SectorSize)]
internal struct FsInfo
{
    /// <summary>FSI_LeadSig.</summary>
    public const uint LeadSignature = 0x4161_5252;

    /// <summary>FSI_StrucSig.</summary>
    public const uint StructureSignature = 0x6141_7272;

    /// <summary>FSI_TrailSig.</summary>
    public const uint TrailSignature = 0xaa55_0000;

    /// <summary>"Not known", for the counts.</summary>
    public const uint Unknown = 0xffff_ffff;

    [FieldOffset(0)]
    public Le32 Lead;

    [FieldOffset(484)]
    public Le32 Structure;

    /// <summary>FSI_Free_Count.</summary>
    [FieldOffset(488)]
    public Le32 FreeClusters;

    /// <summary>FSI_Nxt_Free: where to begin to look for a free cluster.</summary>
    [FieldOffset(492)]
    public Le32 NextFree;

    [FieldOffset(508)]
    public Le32 Trail;
}
