using ImageMount.Core.Options;

namespace ImageMount.Formats.Bochs;

/// <summary>Options of the bochs driver. It has none of its own.</summary>
[ChildOption("file", "The image.")]
public sealed record BochsOptions;
