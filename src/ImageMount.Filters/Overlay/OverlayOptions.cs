using ImageMount.Core.Options;

namespace ImageMount.Filters.Overlay;

/// <summary>Options of driver "overlay".</summary>
public sealed record OverlayOptions
{
    /// <summary>Changes kept in memory before they go to a file.</summary>
    [Option(
        "memory", "How many changed bytes stay in memory; the rest goes to a temporary file.", IsSize = true, Min = 0,
        Max = 1L << 40)]
    public long Memory { get; init; } = 16 << 20;

    /// <summary>Folder of the temporary file.</summary>
    [Option("directory", "Folder of the temporary file; without it $TMPDIR, else /var/tmp.")]
    public string? Directory { get; init; }
}
