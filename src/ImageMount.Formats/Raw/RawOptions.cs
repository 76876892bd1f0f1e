using ImageMount.Core.Options;

namespace ImageMount.Formats.Raw;

/// <summary>Options of driver "raw".</summary>
public sealed record RawOptions
{
    /// <summary>First byte of the disk in its file.</summary>
    [Option("offset", "Where the disk begins in its file.", IsSize = true, Min = 0)]
    public long Offset { get; init; }

    /// <summary>Length of the disk; null for the rest of the file.</summary>
    [Option("size", "Length of the disk; without it, the rest of the file.", IsSize = true, Min = 0)]
    public long? Size { get; init; }
}
