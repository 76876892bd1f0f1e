namespace ImageMount.Mounting.Partitions;

/// <summary>One partition, as a window on its disk.</summary>
/// <param name="Number">As Linux numbers it: MBR primary 1…4, logical from 5; GPT entry index + 1.</param>
/// <param name="Offset">First byte on the disk.</param>
/// <param name="Size">Bytes; already clipped to the disk.</param>
/// <param name="TypeId">MBR: "0x83"; GPT: the type GUID in lower case.</param>
/// <param name="TypeName">What that type is called, or null when we do not know it.</param>
/// <param name="Name">GPT partition name; empty for MBR.</param>
/// <param name="IsBootable">MBR: status 0x80; GPT: "legacy BIOS bootable".</param>
/// <param name="IsLogical">Lives in an extended MBR partition.</param>
public sealed record Partition(
    int Number, long Offset, long Size, string TypeId, string? TypeName, string Name, bool IsBootable, bool IsLogical)
{
    /// <summary>First byte after the partition.</summary>
    public long End => Offset + Size;
}

/// <summary>How a disk is divided.</summary>
public enum PartitionScheme
{
    /// <summary>No partition table: blank, or one file system on the whole disk.</summary>
    None,

    /// <summary>DOS partition table in the first sector.</summary>
    Mbr,

    /// <summary>GUID partition table (UEFI 2.10, section 5.3).</summary>
    Gpt,
}

/// <summary>What was found on a disk.</summary>
/// <param name="Scheme">Kind of table.</param>
/// <param name="SectorSize">Bytes a sector that the table's numbers mean: 512 or 4096.</param>
/// <param name="Partitions">By number; only those that lie on the disk at least in part.</param>
/// <param name="Warnings">What is wrong with the table, one sentence each; never fatal.</param>
public sealed record PartitionTable(
    PartitionScheme Scheme, int SectorSize, IReadOnlyList<Partition> Partitions, IReadOnlyList<string> Warnings)
{
    /// <summary>A disk without partitions.</summary>
    public static PartitionTable Empty { get; } = new(PartitionScheme.None, 512, [], []);
}
