using System.Numerics;

namespace ImageMount.Formats.Vhdx;

/// <summary>Sizes that do not change while an image is open, and where entries stand in the BAT (2.5).</summary>
internal sealed class VhdxGeometry
{
    public VhdxGeometry(int blockSize, int sectorSize, bool hasParent)
    {
        BlockSize = blockSize;
        BlockBits = BitOperations.Log2((uint)blockSize);
        SectorSize = sectorSize;
        SectorBits = BitOperations.Log2((uint)sectorSize);
        HasParent = hasParent;
        ChunkRatio = (int)(VhdxLayout.SectorsPerBitmapBlock * sectorSize / blockSize);
    }

    /// <summary>Bytes of a payload block, a power of two.</summary>
    public int BlockSize { get; }

    /// <summary>Its logarithm.</summary>
    public int BlockBits { get; }

    /// <summary>Bytes of a logical sector: 512 or 4096.</summary>
    public int SectorSize { get; }

    /// <summary>Its logarithm.</summary>
    public int SectorBits { get; }

    /// <summary>True for a differencing disk, whose blocks may be present in part.</summary>
    public bool HasParent { get; }

    /// <summary>Payload blocks that share a sector bitmap block; its BAT entry follows theirs.</summary>
    public int ChunkRatio { get; }

    /// <summary>Sectors of a block.</summary>
    public int SectorsPerBlock => BlockSize >> SectorBits;

    /// <summary>Payload blocks of a disk.</summary>
    public long BlocksOf(long diskSize) => (diskSize + BlockSize - 1) >> BlockBits;

    /// <summary>BAT entries of a disk.</summary>
    public long EntriesOf(long diskSize)
    {
        long blocks = BlocksOf(diskSize);
        if (blocks == 0)
        {
            return 0;
        }

        return HasParent
            ? (blocks + ChunkRatio - 1) / ChunkRatio * (ChunkRatio + 1)
            : blocks + ((blocks - 1) / ChunkRatio);
    }

    /// <summary>Index in the BAT of a payload block's entry.</summary>
    public long EntryOf(long block) => block + (block / ChunkRatio);

    /// <summary>Index in the BAT of the entry for the sector bitmap of a block.</summary>
    public long BitmapEntryOf(long block) => ((block / ChunkRatio + 1) * (ChunkRatio + 1L)) - 1;

    /// <summary>True when an index in the BAT belongs to a sector bitmap block.</summary>
    public bool IsBitmapEntry(long entry) => entry % (ChunkRatio + 1) == ChunkRatio;

    /// <summary>Index of a sector within its chunk: the number of its bit in the bitmap block.</summary>
    public long BitOf(long guestOffset) => (guestOffset >> SectorBits) & (VhdxLayout.SectorsPerBitmapBlock - 1);
}
