using ImageMount.Core.Options;

namespace ImageMount.Formats.Qed;

/// <summary>Options of driver "qed".</summary>
[ChildOption("file", "Where the image is.")]
[ChildOption("backing", "Parent image, instead of the one that the image names; empty for none.")]
public sealed record QedOptions;
