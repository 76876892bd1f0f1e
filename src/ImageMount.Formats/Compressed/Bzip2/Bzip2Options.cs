namespace ImageMount.Formats.Compressed.Bzip2;

/// <summary>Options of driver "bzip2".</summary>
public sealed record Bzip2Options : PackedOptions;
