using ImageMount.Core.Options;

namespace ImageMount.Formats.Qcow;

/// <summary>What a new image is to be like; names are those of <c>qemu-img create -o</c>.</summary>
public sealed record QcowCreateOptions
{
    /// <summary>Virtual size, bytes.</summary>
    [Option("size", "Virtual size.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>Parent, as it is to be written in the image.</summary>
    [Option("backing_file", "Parent image.")]
    public string? BackingFile { get; init; }

    /// <summary>Format of the parent while the image is made.</summary>
    [Option("backing_fmt", "Format of the parent image; not recorded.")]
    public string? BackingFormat { get; init; }
}
