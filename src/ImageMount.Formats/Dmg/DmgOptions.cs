using ImageMount.Core.Options;

namespace ImageMount.Formats.Dmg;

/// <summary>Options of the dmg driver. It has none of its own; its children can be named or replaced.</summary>
[ChildOption("file", "The image, or the first segment of one.")]
[ChildOption(
    "segments", "A segment, by its number from 2 on, in place of NAME.NNN.dmgpart beside the first.", IsList = true)]
public sealed record DmgOptions;
