using System.Runtime.InteropServices;
using ImageMount.Core.Bits;

namespace ImageMount.Formats.Bochs;

/// <summary>
/// On-disk constants of the growing disks of Bochs ("Redolog"; the layout is that of Bochs' "hdimage.h"), and limits.
/// </summary>
internal static class BochsLayout
{
    /// <summary>Unit of bitmaps and of everything that is stored, bytes.</summary>
    public const int SectorSize = 512;

    /// <summary>Version with the disk's size right after the extent's.</summary>
    public const uint Version1 = 0x10000;

    /// <summary>Version with a time stamp between them.</summary>
    public const uint Version2 = 0x20000;

    /// <summary>Catalog entry of an extent that is not stored.</summary>
    public const uint NotStored = uint.MaxValue;

    /// <summary>Most catalog entries.</summary>
    public const uint MaxCatalog = 1 << 20;

    /// <summary>Largest extent, bytes.</summary>
    public const uint MaxExtent = 8 << 20;

    /// <summary>Most bytes of an extent's bitmap; more than any extent needs, since it is padded to sectors.</summary>
    public const uint MaxBitmap = 64 << 10;

    /// <summary>Most bytes of the header.</summary>
    public const uint MaxHeader = 1 << 20;

    /// <summary>First string of the header.</summary>
    public static ReadOnlySpan<byte> Magic => "Bochs Virtual HD Image\0"u8;

    /// <summary>Second string.</summary>
    public static ReadOnlySpan<byte> Type => "Redolog\0"u8;

    /// <summary>Third string of a disk that stands for itself.</summary>
    public static ReadOnlySpan<byte> Growing => "Growing\0"u8;
}

/// <summary>The header. The strings before it are 32, 16 and 16 bytes, padded with zeroes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 96, Pack = 1)]
internal struct BochsStoredHeader
{
    [FieldOffset(64)]
    public Le32 Version;

    /// <summary>Bytes before the catalog.</summary>
    [FieldOffset(68)]
    public Le32 HeaderSize;

    /// <summary>Entries, 32 bits each: number of the place where an extent is stored.</summary>
    [FieldOffset(72)]
    public Le32 CatalogEntries;

    /// <summary>Bytes; a bit for each sector of an extent that is stored.</summary>
    [FieldOffset(76)]
    public Le32 BitmapSize;

    /// <summary>Bytes.</summary>
    [FieldOffset(80)]
    public Le32 ExtentSize;

    /// <summary>Bytes, in version 1.</summary>
    [FieldOffset(84)]
    public Le64 DiskSizeV1;

    /// <summary>Bytes, in version 2.</summary>
    [FieldOffset(88)]
    public Le64 DiskSizeV2;
}
