using ImageMount.Core.Options;

namespace ImageMount.Formats.Compressed.Xz;

/// <summary>Options of driver "xz".</summary>
public sealed record XzOptions : PackedOptions
{
    /// <summary>Most memory of a decoder.</summary>
    [Option("decoder-memory", "Most memory that the decoder of a block may ask for.", IsSize = true, Min = 1 << 20)]
    public long DecoderMemory { get; init; } = 256 << 20;
}
