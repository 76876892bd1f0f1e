using ImageMount.Core.Options;

namespace ImageMount.Formats.Cloop;

/// <summary>Options of the cloop driver. It has none of its own.</summary>
[ChildOption("file", "The image.")]
public sealed record CloopOptions;
