using ImageMount.Core.Options;

namespace ImageMount.Formats.Compressed.Zstd;

/// <summary>Options of driver "zstd".</summary>
public sealed record ZstdOptions : PackedOptions
{
    /// <summary>Largest window.</summary>
    [Option("decoder-memory", "Largest window that a frame may ask for.", IsSize = true, Min = 1 << 20)]
    public long DecoderMemory { get; init; } = 256 << 20;
}
