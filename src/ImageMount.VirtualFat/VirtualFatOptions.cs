using ImageMount.Core.Options;

namespace ImageMount.VirtualFat;

/// <summary>What happens to files and names that a FAT volume cannot hold.</summary>
public enum UnsupportedPolicy
{
    /// <summary>They are left out, and reported.</summary>
    Skip,

    /// <summary>The folder is not opened.</summary>
    Fail,

    /// <summary>Names are changed to the nearest that can be there, and reported; files that are too large are left
    /// out.</summary>
    Rename,
}

/// <summary>How many bits an entry of the FAT has.</summary>
public enum FatTypeOption
{
    /// <summary>FAT12.</summary>
    [OptionValue("12")]
    Fat12 = 12,

    /// <summary>FAT16.</summary>
    [OptionValue("16")]
    Fat16 = 16,

    /// <summary>FAT32.</summary>
    [OptionValue("32")]
    Fat32 = 32,
}

/// <summary>Which floppy.</summary>
public enum FloppySize
{
    /// <summary>5¼ inches, 1200 KiB.</summary>
    [OptionValue("1.2M")]
    Size1200,

    /// <summary>3½ inches, 1440 KiB.</summary>
    [OptionValue("1.44M")]
    Size1440,

    /// <summary>3½ inches, 2880 KiB.</summary>
    [OptionValue("2.88M")]
    Size2880,
}

/// <summary>
/// Options of the driver <c>vvfat</c>; dir, fat-type, floppy, label and rw are QEMU's.
/// </summary>
public sealed record VirtualFatOptions
{
    /// <summary>Smallest disk, bytes.</summary>
    public const long MinSize = 64 << 10;

    /// <summary>Largest disk, bytes: a partition table and a boot sector count sectors of 512 bytes in 32 bits.</summary>
    public const long MaxSize = 2L << 40;

    /// <summary>Path of the folder.</summary>
    [Option("dir", "Folder that the disk shows", Required = true)]
    public string Dir { get; init; } = "";

    /// <summary>FAT12, FAT16 or FAT32; null: by the size.</summary>
    [Option("fat-type", "Bits of a FAT entry; without it by the size of the disk")]
    public FatTypeOption? FatType { get; init; }

    /// <summary>A floppy instead of a fixed disk.</summary>
    [Option("floppy", "A floppy instead of a fixed disk")]
    public bool Floppy { get; init; }

    /// <summary>Which floppy; null: the smallest of 1.44 and 2.88 MB that holds the folder.</summary>
    [Option("floppy-size", "Size of the floppy; without it 1.44M, or 2.88M when the folder does not fit")]
    public FloppySize? FloppySize { get; init; }

    /// <summary>Label of the volume; empty: none.</summary>
    [Option("label", "Label of the volume, up to 11 characters; empty: none")]
    public string Label { get; init; } = "IMGMOUNT";

    /// <summary>The disk can be written.</summary>
    [Option("rw", "What is written to the disk is applied to the folder")]
    public bool Rw { get; init; }

    /// <summary>Size of the disk, bytes; null: what the folder takes and some free space.</summary>
    [Option("size", "Size of a fixed disk; without it what the folder takes, and free space",
        IsSize = true, Min = MinSize, Max = MaxSize)]
    public long? Size { get; init; }

    /// <summary>A partition table before the volume.</summary>
    [Option("partitioned", "A partition table before the volume of a fixed disk; off: the volume is the whole disk")]
    public bool Partitioned { get; init; } = true;

    /// <summary>What happens to what FAT cannot hold.</summary>
    [Option("unsupported", "Files and names that FAT cannot hold: leave out, refuse the folder, or give other names")]
    public UnsupportedPolicy Unsupported { get; init; }

    /// <summary>The folder is scanned again when the disk is opened and nobody else has it open.</summary>
    [Option("refresh", "Scan the folder again whenever the mounted disk is opened and nobody else has it open")]
    public bool Refresh { get; init; }

    /// <summary>A journal that an earlier mount kept.</summary>
    [Option("journal", "Journal that an earlier mount of the folder kept: go on with it (with rw)")]
    public string? Journal { get; init; }

    /// <summary>Folder for journals.</summary>
    [Option("journal-dir", "Folder for journals; without it a folder of the user's state")]
    public string? JournalDir { get; init; }

    /// <summary>Bytes that a journal keeps in memory.</summary>
    [Option("journal-memory", "How many written bytes stay in memory; the rest goes to the journal's file",
        IsSize = true, Min = 0, Max = 1L << 40)]
    public long JournalMemory { get; init; } = 64 << 20;
}
