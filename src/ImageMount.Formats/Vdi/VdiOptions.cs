using ImageMount.Core.Options;

namespace ImageMount.Formats.Vdi;

/// <summary>Options of the vdi driver. It has none of its own; its children can be named.</summary>
[ChildOption("file", "The image.")]
[ChildOption("backing", "The parent of a differencing image, which does not say where it is; empty for none.")]
public sealed record VdiOptions;

/// <summary>What a new image is to be like; names are those of <c>qemu-img create -o</c>.</summary>
public sealed record VdiCreateOptions
{
    /// <summary>Virtual size, bytes.</summary>
    [Option("size", "Virtual size.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>Whether all blocks have their place from the start.</summary>
    [Option("static", "Give every block its place at once.")]
    public bool Static { get; init; }
}
