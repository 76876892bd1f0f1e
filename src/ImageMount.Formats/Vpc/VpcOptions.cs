using ImageMount.Core.Options;

namespace ImageMount.Formats.Vpc;

/// <summary>Options of the vpc driver.</summary>
[ChildOption("file", "The image.")]
[ChildOption("backing", "The parent in place of the one that the image names; empty for none.")]
public sealed record VpcOptions
{
    /// <summary>Which of the two sizes counts.</summary>
    [Option("force_size_calc", "Size of the disk: auto (by the program that made it), chs or current_size.")]
    public VpcSizeCalculation SizeCalculation { get; init; }
}

/// <summary>Kinds of images that are made.</summary>
public enum VpcSubformat
{
    /// <summary>Blocks are stored when they are written.</summary>
    Dynamic,

    /// <summary>The disk and a footer.</summary>
    Fixed,
}

/// <summary>What a new image is to be like; names are those of <c>qemu-img create -o</c>.</summary>
public sealed record VpcCreateOptions
{
    /// <summary>Virtual size, bytes.</summary>
    [Option("size", "Virtual size; rounded up to whole cylinders.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>Kind.</summary>
    [Option("subformat", "dynamic or fixed.")]
    public VpcSubformat Subformat { get; init; }

    /// <summary>Exactly the size that was asked for.</summary>
    [Option("force_size", "Keep the exact size, which programs that count in cylinders do not understand.")]
    public bool ForceSize { get; init; }

    /// <summary>Parent, as it is to be written in the image.</summary>
    [Option("backing_file", "Parent image: makes a differencing disk.")]
    public string? BackingFile { get; init; }

    /// <summary>Format of the parent.</summary>
    [Option("backing_fmt", "Format of the parent image; only vpc.")]
    public string? BackingFormat { get; init; }
}
