using ImageMount.Core.Options;

namespace ImageMount.Formats.Qed;

/// <summary>What a new image is to be like; names are those of <c>qemu-img create -o</c>.</summary>
public sealed record QedCreateOptions
{
    /// <summary>Virtual size, bytes; rounded up to sectors.</summary>
    [Option("size", "Virtual size.", IsSize = true, Required = true, Min = 0)]
    public long Size { get; init; }

    /// <summary>Cluster size, bytes.</summary>
    [Option("cluster_size", "Allocation unit, a power of two.", IsSize = true, Min = 4 << 10, Max = 64 << 20)]
    public int ClusterSize { get; init; } = 64 << 10;

    /// <summary>Clusters of a table.</summary>
    [Option("table_size", "Size of the tables in clusters: 1, 2, 4, 8 or 16.", Min = 1, Max = 16)]
    public int TableSize { get; init; } = 4;

    /// <summary>Parent, as it is to be written in the image.</summary>
    [Option("backing_file", "Parent image.")]
    public string? BackingFile { get; init; }

    /// <summary>Format of the parent.</summary>
    [Option("backing_fmt", "Format of the parent image; only raw is recorded, others are recognised.")]
    public string? BackingFormat { get; init; }
}
