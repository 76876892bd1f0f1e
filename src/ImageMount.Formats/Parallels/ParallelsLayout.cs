using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Parallels;

/// <summary>
/// On-disk constants of Parallels' expanding images ("Parallels Expandable Image File Format", which QEMU's developers
/// published with Parallels). All numbers are little-endian; a sector is 512 bytes.
/// </summary>
internal static class ParallelsLayout
{
    /// <summary>Bytes of a sector.</summary>
    public const int SectorSize = 512;

    /// <summary>Bytes of the header; the table follows it at once.</summary>
    public const int HeaderSize = 64;

    /// <summary>The only version.</summary>
    public const uint Version = 2;

    /// <summary>Entry of a cluster that is not stored.</summary>
    public const uint FreeCluster = 0;

    /// <summary>"in_use" of an image that is being written.</summary>
    public const uint InUse = 0x746f_6e59;

    /// <summary>"in_use" of an image that was closed by a program that knows the field.</summary>
    public const uint Closed = 0x312e_3276;

    /// <summary>Where "in_use" stands.</summary>
    public const int InUseOffset = 44;

    /// <summary>Where the sector of the format extension stands.</summary>
    public const int ExtensionOffset = 56;

    /// <summary>Magic of the format extension's cluster.</summary>
    public const ulong ExtensionMagic = 0xab23_4cef_23dc_ea87;

    /// <summary>Bytes of the extension's magic and MD5 sum, which the sum does not cover.</summary>
    public const int ExtensionHeaderSize = 24;

    /// <summary>Feature of the extension: a dirty bitmap.</summary>
    public const ulong DirtyBitmapFeature = 0x2038_5fae_252c_b34a;

    /// <summary>Flag of a feature: who does not know it must not open the image.</summary>
    public const ulong NecessaryFlag = 1;

    /// <summary>Most bytes of the extension that features are looked for in.</summary>
    public const int MaxExtension = 1 << 20;

    /// <summary>Most features.</summary>
    public const int MaxFeatures = 256;

    /// <summary>Cluster size that everybody makes.</summary>
    public const int ClusterSize = 1 << 20;

    /// <summary>Version 1: entries count sectors, the disk has 32-bit sectors.</summary>
    public static ReadOnlySpan<byte> MagicV1 => "WithoutFreeSpace"u8;

    /// <summary>Version 2: entries count clusters.</summary>
    public static ReadOnlySpan<byte> MagicV2 => "WithouFreSpacExt"u8;
}

/// <summary>The header, behind its magic of 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct ParallelsRawHeader
{
    public Le32 Version;
    public Le32 Heads;
    public Le32 Cylinders;
    public Le32 ClusterSectors;
    public Le32 Entries;
    public Le64 Sectors;
    public Le32 InUse;
    public Le32 DataSector;
    public Le32 Flags;
    public Le64 ExtensionSector;
}

/// <summary>Head of a feature of the format extension; its data follows.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct ParallelsRawFeature
{
    public Le64 Magic;
    public Le64 Flags;
    public Le32 DataSize;
    public Le32 Unused;
}

/// <summary>16 bytes.</summary>
[System.Runtime.CompilerServices.InlineArray(16)]
internal struct ParallelsId
{
    private byte _first;
}

/// <summary>Head of a dirty bitmap's data; its table of clusters follows.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct ParallelsRawBitmap
{
    public Le64 Sectors;
    public ParallelsId Id;
    public Le32 GranularitySectors;
    public Le32 TableEntries;
}
