using ImageMount.Core.Options;

namespace ImageMount.Formats.Parallels;

/// <summary>Options of the parallels driver. It has none of its own; its children can be named or replaced.</summary>
[ChildOption("file", "The image, or the DiskDescriptor.xml of a bundle.")]
[ChildOption("images", "A file of a bundle in place of the one that the descriptor names.", IsList = true)]
public sealed record ParallelsOptions;

/// <summary>What a new image is to be like; names are those of <c>qemu-img create -o</c>.</summary>
public sealed record ParallelsCreateOptions
{
    /// <summary>Virtual size, bytes.</summary>
    [Option("size", "Virtual size.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>Cluster size, bytes.</summary>
    [Option("cluster_size", "Allocation unit, a multiple of 512.", IsSize = true, Min = 512, Max = 256 << 20)]
    public int ClusterSize { get; init; } = ParallelsLayout.ClusterSize;
}
