using ImageMount.Core.Options;

namespace ImageMount.Formats.Vmdk;

/// <summary>Options for making a VMDK; named as qemu-img names them.</summary>
public sealed record VmdkCreateOptions
{
    /// <summary>Disk controller that guests are told to expect.</summary>
    [Option("adapter_type", "Virtual adapter: ide, lsilogic, buslogic or legacyESX.")]
    public string AdapterType { get; init; } = "ide";

    /// <summary>Version of the virtual hardware; null for the default of <see cref="Compat6"/>.</summary>
    [Option("hwversion", "Virtual hardware version.")]
    public string? HardwareVersion { get; init; }

    /// <summary>Hardware version 6 instead of 4.</summary>
    [Option("compat6", "Make it for version 6 of the virtual hardware.")]
    public bool Compat6 { get; init; }

    /// <summary>Allow grain table entries that mean zeroes (version 2 of the sparse header).</summary>
    [Option("zeroed_grain", "Zeroes over a parent's data take no space.")]
    public bool ZeroedGrain { get; init; }

    /// <summary>The parent as it is to stand in the descriptor, or null.</summary>
    [Option("backing_file", "The parent disk.")]
    public string? BackingFile { get; init; }

    /// <summary>Content id of the parent; counts only with <see cref="BackingFile"/>.</summary>
    public uint BackingCid { get; init; }
}
