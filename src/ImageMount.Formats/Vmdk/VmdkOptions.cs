using ImageMount.Core.Options;

namespace ImageMount.Formats.Vmdk;

/// <summary>Options of the vmdk driver. It has none of its own; its children can be named or replaced.</summary>
[ChildOption("file", "The descriptor, or the sparse extent that contains it.")]
[ChildOption("extents", "A file of the disk in place of the one that the descriptor names.", IsList = true)]
[ChildOption("backing", "The parent in place of the one that the descriptor names; empty for none.")]
public sealed record VmdkOptions;
