using ImageMount.Core.Options;

namespace ImageMount.Formats.Compressed.Gzip;

/// <summary>Options of driver "gzip".</summary>
public sealed record GzipOptions : PackedOptions
{
    /// <summary>Unpacked bytes between places where decoding can begin.</summary>
    [Option("checkpoint-distance", "Unpacked bytes between places from which decoding can begin.", IsSize = true,
        Min = 32 << 10, Max = 1 << 30)]
    public long CheckpointDistance { get; init; } = 1 << 20;
}
