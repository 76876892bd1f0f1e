using ImageMount.Core.Options;

namespace ImageMount.Formats.Vmdk;

/// <summary>What a new VMDK is to be like; names are those of <c>qemu-img create -o</c>.</summary>
public sealed record VmdkCreateOptions
{
    /// <summary>Virtual size, bytes.</summary>
    [Option("size", "Virtual size.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>How the disk lies in files.</summary>
    [Option("subformat",
        "monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat or streamOptimized.")]
    public VmdkSubformat Subformat { get; init; }

    /// <summary>The parent, as it is to stand in the descriptor, or null.</summary>
    [Option("backing_file", "The parent disk, a VMDK.")]
    public string? BackingFile { get; init; }

    /// <summary>Format of the parent.</summary>
    [Option("backing_fmt", "Format of the parent: vmdk.")]
    public string? BackingFormat { get; init; }

    /// <summary>Disk controller that guests are told to expect.</summary>
    [Option("adapter_type", "Virtual adapter: ide, lsilogic, buslogic or legacyESX.")]
    public string AdapterType { get; init; } = "ide";

    /// <summary>Version of the virtual hardware; null for the default of <see cref="Compat6"/>.</summary>
    [Option("hwversion", "Virtual hardware version; 4 if not given.")]
    public string? HardwareVersion { get; init; }

    /// <summary>Hardware version 6 instead of 4.</summary>
    [Option("compat6", "Make it for version 6 of the virtual hardware.")]
    public bool Compat6 { get; init; }

    /// <summary>Version of VMware's tools in the guest; what QEMU writes means "do not care".</summary>
    [Option("toolsversion", "Version of VMware's tools in the guest.")]
    public string ToolsVersion { get; init; } = "2147483647";

    /// <summary>Allow grain table entries that mean zeroes (version 2 of the sparse header).</summary>
    [Option("zeroed_grain", "Zeroes over a parent's data take no space.")]
    public bool ZeroedGrain { get; init; }
}

/// <summary>How a disk lies in files; names are those of a descriptor's createType.</summary>
public enum VmdkSubformat
{
    /// <summary>One file that grows, the descriptor inside.</summary>
    [OptionValue("monolithicSparse")]
    MonolithicSparse,

    /// <summary>A descriptor, and one file of the disk's size.</summary>
    [OptionValue("monolithicFlat")]
    MonolithicFlat,

    /// <summary>A descriptor, and a growing file for every 2 GiB.</summary>
    [OptionValue("twoGbMaxExtentSparse")]
    TwoGbMaxExtentSparse,

    /// <summary>A descriptor, and a file for every 2 GiB.</summary>
    [OptionValue("twoGbMaxExtentFlat")]
    TwoGbMaxExtentFlat,

    /// <summary>One compressed file, written once from start to end; for OVF packages.</summary>
    [OptionValue("streamOptimized")]
    StreamOptimized,
}
