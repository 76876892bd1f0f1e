using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Protocols.Iscsi;

/// <summary>Numbers of SCSI: SPC-4 (inquiry, modes, sense), SBC-3 (disks), MMC-6 (CD). Everything is big-endian.</summary>
internal static class ScsiLayout
{
    /// <summary>Peripheral device types (SPC-4, 6.4.2).</summary>
    public const int DiskType = 0;
    public const int CdType = 5;
    public const int OpticalType = 7;
    public const int ReducedDiskType = 14;

    /// <summary>Vital product data pages.</summary>
    public const byte SupportedPages = 0x00;
    public const byte BlockLimitsPage = 0xB0;
    public const byte ProvisioningPage = 0xB2;

    /// <summary>Mode pages.</summary>
    public const byte CachingPage = 0x08;
    public const byte AllPages = 0x3F;

    /// <summary>Most blocks of a READ(10) or WRITE(10), and lowest block that does not fit there.</summary>
    public const int MaxShortBlocks = 65535;
    public const long MaxShortAddress = 1L << 32;
}

/// <summary>Operation codes.</summary>
internal enum ScsiOperation : byte
{
    TestUnitReady = 0x00,
    Inquiry = 0x12,
    ModeSense6 = 0x1A,
    ReadCapacity10 = 0x25,
    Read10 = 0x28,
    Write10 = 0x2A,
    SynchronizeCache10 = 0x35,
    Unmap = 0x42,
    Read16 = 0x88,
    Write16 = 0x8A,
    SynchronizeCache16 = 0x91,
    WriteSame16 = 0x93,
    ServiceActionIn16 = 0x9E,
}

/// <summary>Commands of SERVICE ACTION IN(16).</summary>
internal enum ScsiServiceAction : byte
{
    ReadCapacity16 = 0x10,
    GetLbaStatus = 0x12,
}

/// <summary>Six bytes: TEST UNIT READY, INQUIRY, MODE SENSE(6).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiCdb6(ScsiOperation Operation, byte Flags, byte Page, Be16 Length, byte Control);

/// <summary>Ten bytes: READ(10), WRITE(10), READ CAPACITY(10), SYNCHRONIZE CACHE(10), UNMAP.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiCdb10(
    ScsiOperation Operation, byte Flags, Be32 Address, byte Group, Be16 Length, byte Control);

/// <summary>Sixteen bytes: READ(16), WRITE(16), WRITE SAME(16), READ CAPACITY(16), GET LBA STATUS.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiCdb16(
    ScsiOperation Operation, byte Flags, Be64 Address, Be32 Length, byte Group, byte Control);

/// <summary>Answer to READ CAPACITY(10) (SBC-3, 5.15.2).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiCapacity10(Be32 LastBlock, Be32 BlockLength);

/// <summary>Answer to READ CAPACITY(16) as far as it is used (SBC-3, 5.16.2).</summary>
/// <param name="LastBlock">Its address.</param>
/// <param name="BlockLength">Bytes.</param>
/// <param name="Protection">Protection information; not used.</param>
/// <param name="Exponents">Blocks per physical block, as a power of two, in the low four bits.</param>
/// <param name="Provisioning">Bit 15: LBPME; bit 14: LBPRZ.</param>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiCapacity16(
    Be64 LastBlock, Be32 BlockLength, byte Protection, byte Exponents, Be16 Provisioning);

/// <summary>Block limits, VPD page B0, from its first byte (SBC-3, 6.6.4). Zero: not told.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiBlockLimits(
    byte Type, byte Page, Be16 PageLength, byte WriteSameNonZero, byte MaxCompareAndWrite, Be16 OptimalGranularity,
    Be32 MaxTransfer, Be32 OptimalTransfer, Be32 MaxPrefetch, Be32 MaxUnmapBlocks, Be32 MaxUnmapDescriptors,
    Be32 UnmapGranularity, Be32 UnmapAlignment, Be64 MaxWriteSame);

/// <summary>
/// Provisioning, VPD page B2, from its first byte (SBC-3, 6.6.6). Flags, bit 7: UNMAP; bit 6: WRITE SAME(16).
/// </summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiProvisioning(byte Type, byte Page, Be16 PageLength, byte Exponent, byte Flags);

/// <summary>Parameters of UNMAP with one range (SBC-3, 5.28.2).</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiUnmapList(
    Be16 DataLength, Be16 DescriptorLength, Be32 Reserved, Be64 Address, Be32 Blocks, Be32 ReservedToo);

/// <summary>A range of an answer to GET LBA STATUS (SBC-3, 5.4.2). State 0: mapped, 1: deallocated, 2: anchored.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal readonly record struct ScsiLbaStatus(Be64 Address, Be32 Blocks, byte State, byte R1, Be16 R2);
