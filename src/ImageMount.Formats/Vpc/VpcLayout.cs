using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Vpc;

/// <summary>
/// On-disk constants of VHD (Microsoft, "Virtual Hard Disk Image Format Specification", October 2006; its sections are
/// named where a rule is used). All numbers are big-endian.
/// </summary>
internal static class VpcLayout
{
    /// <summary>Bytes of a sector, the unit of the block table.</summary>
    public const int SectorSize = 512;

    /// <summary>Bytes of the footer ("Hard Disk Footer Format"); programs before 2004 wrote one byte less.</summary>
    public const int FooterSize = 512;

    /// <summary>Bytes of the header of dynamic and differencing disks ("Dynamic Disk Header Format").</summary>
    public const int HeaderSize = 1024;

    /// <summary>"conectix".</summary>
    public const ulong FooterCookie = 0x636f6e6563746978;

    /// <summary>"cxsparse".</summary>
    public const ulong HeaderCookie = 0x6378737061727365;

    /// <summary>Version 1.0 of the footer and of the header.</summary>
    public const uint Version = 0x0001_0000;

    /// <summary>"Data Offset" where nothing follows.</summary>
    public const ulong NoOffset = ulong.MaxValue;

    /// <summary>Entry of a block that is not stored ("Block Allocation Table and Data Blocks").</summary>
    public const uint FreeBlock = 0xffff_ffff;

    /// <summary>Block size that everybody makes.</summary>
    public const int BlockSize = 2 << 20;

    /// <summary>Most sectors: 2040 GiB, what block tables reach.</summary>
    public const long MaxSectors = 0xff00_0000;

    /// <summary>Most sectors of a geometry, which then says nothing about the size ("CHS Calculation").</summary>
    public const long MaxGeometry = 65535L * 16 * 255;

    /// <summary>Most bytes of a parent locator that are looked at.</summary>
    public const int MaxLocator = 8 << 10;

    /// <summary>When the timestamps begin to count seconds.</summary>
    public static readonly DateTime Epoch = new(2000, 1, 1, 0, 0, 0, DateTimeKind.Utc);

    /// <summary>One's complement of the sum of all bytes but those of the checksum itself.</summary>
    public static uint Checksum(ReadOnlySpan<byte> bytes, int checksumOffset)
    {
        uint sum = 0;
        for (int i = 0; i < bytes.Length; i++)
        {
            if (i < checksumOffset || i >= checksumOffset + sizeof(uint))
            {
                sum += bytes[i];
            }
        }

        return ~sum;
    }
}

/// <summary>"Disk Type".</summary>
internal enum VpcType : uint
{
    /// <summary>The file is the disk, and a footer.</summary>
    Fixed = 2,

    /// <summary>Blocks are stored when they are written.</summary>
    Dynamic = 3,

    /// <summary>Changes of a parent.</summary>
    Differencing = 4,
}

/// <summary>16 bytes.</summary>
[InlineArray(16)]
internal struct VpcId
{
    private byte _first;
}

/// <summary>"Hard Disk Footer Format"; reserved bytes follow.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VpcRawFooter
{
    public Be64 Cookie;
    public Be32 Features;
    public Be32 Version;
    public Be64 DataOffset;
    public Be32 Timestamp;
    public Be32 CreatorApplication;
    public Be32 CreatorVersion;
    public Be32 CreatorHost;
    public Be64 OriginalSize;
    public Be64 CurrentSize;
    public Be16 Cylinders;
    public byte Heads;
    public byte SectorsPerTrack;
    public Be32 Type;
    public Be32 Checksum;
    public VpcId UniqueId;
    public byte SavedState;
}

/// <summary>512 bytes of UTF-16.</summary>
[InlineArray(512)]
internal struct VpcName
{
    private byte _first;
}

/// <summary>One of eight "Parent Locator Entries".</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VpcRawLocator
{
    public Be32 Platform;
    public Be32 Space;
    public Be32 Length;
    public Be32 Reserved;
    public Be64 Offset;
}

/// <summary>The eight of them.</summary>
[InlineArray(8)]
internal struct VpcRawLocators
{
    private VpcRawLocator _first;
}

/// <summary>"Dynamic Disk Header Format"; reserved bytes follow.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct VpcRawHeader
{
    public Be64 Cookie;
    public Be64 DataOffset;
    public Be64 TableOffset;
    public Be32 Version;
    public Be32 Entries;
    public Be32 BlockSize;
    public Be32 Checksum;
    public VpcId ParentId;
    public Be32 ParentTimestamp;
    public Be32 Reserved;
    public VpcName ParentName;
    public VpcRawLocators Locators;
}

/// <summary>"Platform Code" of a parent locator.</summary>
internal static class VpcPlatform
{
    /// <summary>"W2ru": a path relative to the child, UTF-16 little-endian.</summary>
    public const uint RelativePath = 0x57327275;

    /// <summary>"W2ku": an absolute path, UTF-16 little-endian.</summary>
    public const uint AbsolutePath = 0x57326b75;

    /// <summary>"MacX": a file URL, UTF-8.</summary>
    public const uint FileUrl = 0x4d616358;
}
