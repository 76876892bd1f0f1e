using ImageMount.Core.Options;

namespace ImageMount.Formats.Vhdx;

/// <summary>How space is given out.</summary>
public enum VhdxSubformat
{
    /// <summary>Blocks get their place when they are written.</summary>
    Dynamic,

    /// <summary>All blocks have their place from the start.</summary>
    Fixed,
}

/// <summary>What a new image is to be like; names are those of <c>qemu-img create -o</c>, where it has them.</summary>
public sealed record VhdxCreateOptions
{
    /// <summary>Virtual size, bytes; a multiple of the logical sector size up to 64 TiB.</summary>
    [Option("size", "Virtual size.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>How space is given out; counts only without a parent.</summary>
    [Option("subformat", "dynamic: blocks get their place when they are written; fixed: all have one from the start.")]
    public VhdxSubformat Subformat { get; init; }

    /// <summary>Whether new blocks of a dynamic disk say that they are zeroes.</summary>
    [Option("block_state_zero", "Mark new blocks of a dynamic disk as zeroes, not as undefined.")]
    public bool BlockStateZero { get; init; } = true;

    /// <summary>Bytes of a payload block, a power of two; 0 for what fits the size.</summary>
    [Option("block_size", "Allocation unit, a power of two from 1 MiB; 0 for what fits the size.", IsSize = true,
        Min = 0, Max = VhdxLayout.MaxBlockSize)]
    public long BlockSize { get; init; }

    /// <summary>Bytes of the log, a multiple of 1 MiB; 0 for 1 MiB.</summary>
    [Option("log_size", "Size of the log, a multiple of 1 MiB.", IsSize = true, Min = 0, Max = 1 << 30)]
    public long LogSize { get; init; }

    /// <summary>Bytes of a sector as the guest sees it; 0 for 512, or the parent's.</summary>
    [Option("logical_sector_size", "Sector size that the guest sees: 512 or 4096.", Min = 0, Max = 4096)]
    public int LogicalSectorSize { get; init; }

    /// <summary>Parent, as a path relative to the new image.</summary>
    [Option("backing_file", "Parent image, which makes a differencing disk.")]
    public string? BackingFile { get; init; }

    /// <summary>Format of the parent; can only be vhdx.</summary>
    [Option("backing_fmt", "Format of the parent image: vhdx.")]
    public string? BackingFormat { get; init; }
}
