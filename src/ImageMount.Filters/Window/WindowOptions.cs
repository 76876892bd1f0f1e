using ImageMount.Core.Options;

namespace ImageMount.Filters.Window;

/// <summary>Options of driver "window".</summary>
public sealed record WindowOptions
{
    /// <summary>First byte of the part.</summary>
    [Option("offset", "Where the part begins on the disk below.", IsSize = true, Min = 0)]
    public long Offset { get; init; }

    /// <summary>Length of the part; null for the rest.</summary>
    [Option("size", "Length of the part; without it, the rest of the disk.", IsSize = true, Min = 0)]
    public long? Size { get; init; }
}
