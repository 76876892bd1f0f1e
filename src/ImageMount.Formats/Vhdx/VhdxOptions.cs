using ImageMount.Core.Options;

namespace ImageMount.Formats.Vhdx;

/// <summary>The driver has no options of its own.</summary>
[ChildOption("file", "Where the image is.")]
[ChildOption("backing", "Parent disk, instead of the one that the image names; empty for none.")]
public sealed record VhdxOptions;
