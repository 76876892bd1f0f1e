using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>What the parts of an open image share.</summary>
internal sealed class VhdxImage
{
    /// <summary>Cached pieces of the BAT and of sector bitmaps: the BAT of 32 TiB with blocks of 32 MiB.</summary>
    private const long CacheBytes = 8 << 20;

    public VhdxImage(BlockNode file, BlockNode? backing, VhdxHeader header, VhdxRegions regions, VhdxMetadata metadata)
    {
        File = file;
        Backing = backing;
        Header = header;
        Regions = regions;
        Metadata = metadata;
        Tables = new TableCache(file, Sync, VhdxLayout.LogSectorSize, CacheBytes, WordOrder.LittleEndian);
    }

    /// <summary>Guards the tables and who holds which range; held briefly, never over I/O.</summary>
    public Lock Sync { get; } = new();

    /// <summary>The file, with its log replayed.</summary>
    public BlockNode File { get; }

    /// <summary>The parent, or null.</summary>
    public BlockNode? Backing { get; }

    /// <summary>The header when the image was opened.</summary>
    public VhdxHeader Header { get; }

    /// <summary>Where things are.</summary>
    public VhdxRegions Regions { get; }

    /// <summary>What the disk is.</summary>
    public VhdxMetadata Metadata { get; }

    /// <summary>Sizes.</summary>
    public VhdxGeometry Geometry => Metadata.Geometry;

    /// <summary>Pieces of what changes through the log, in its sectors: BAT, sector bitmaps, metadata.</summary>
    public TableCache Tables { get; }

    /// <summary>The piece with the BAT entry of an index.</summary>
    public long BatKey(long entry) => (Regions.Bat.Offset + (entry * sizeof(ulong))) & -(long)VhdxLayout.LogSectorSize;

    /// <summary>Where in its piece a BAT entry stands, in words.</summary>
    public static int BatIndex(long entry) => (int)(entry % (VhdxLayout.LogSectorSize / sizeof(ulong)));
}
