using ImageMount.Core.Options;

namespace ImageMount.Formats.Split;

/// <summary>Options of driver "split". It has none of its own; its children can be named or replaced.</summary>
[ChildOption("file", "The first part.")]
[ChildOption("parts", "A further part in place of the one beside the first; parts.2 is the second.", IsList = true)]
public sealed record SplitOptions;
