using System.Buffers.Binary;

namespace ImageMount.Mounting.Tests.Partitions;

/// <summary>A small disk in memory whose partition table a test writes byte by byte.</summary>
internal sealed class DiskBuilder(int sectors, int sectorSize = 512)
{
    public byte[] Bytes { get; } = new byte[sectors * sectorSize];

    public int SectorSize { get; } = sectorSize;

    public BlockNode Node => new("disk", "memory", new MemoryDevice(Bytes));

    /// <summary>Writes hex text ("80 01 …") at a byte offset.</summary>
    public DiskBuilder Hex(int offset, string hex)
    {
        Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal)).CopyTo(Bytes.AsSpan(offset));
        return this;
    }

    /// <summary>Signs the boot record in a sector of 512 bytes.</summary>
    public DiskBuilder Sign(int sector = 0) => Hex(sector * 512 + 510, "55AA");

    /// <summary>Writes entry 0…3 of the boot record in a sector.</summary>
    public DiskBuilder Entry(int sector, int index, byte type, uint first, uint count, byte status = 0)
    {
        Span<byte> entry = Bytes.AsSpan(sector * 512 + 446 + index * 16, 16);
        entry[0] = status;
        entry[4] = type;
        BinaryPrimitives.WriteUInt32LittleEndian(entry[8..], first);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[12..], count);
        return this;
    }

    public async Task<ImageMount.Mounting.Partitions.PartitionTable> ScanAsync() =>
        await ImageMount.Mounting.Partitions.PartitionScanner.ScanAsync(Node);
}
