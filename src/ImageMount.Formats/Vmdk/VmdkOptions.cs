using ImageMount.Core.Options;

namespace ImageMount.Formats.Vmdk;

/// <summary>Options of the vmdk driver.</summary>
[ChildOption("file", "The descriptor, or the sparse extent that contains it.")]
[ChildOption("extents", "A file of the disk in place of the one that the descriptor names.", IsList = true)]
[ChildOption("backing", "The parent in place of the one that the descriptor names; empty for none.")]
public sealed record VmdkOptions
{
    /// <summary>What to do with a disk whose changes VMware tracks for backup programs.</summary>
    [Option("change-tracking", "Disks whose changed blocks VMware tracks: refuse to write them, or ignore that.")]
    public VmdkChangeTracking ChangeTracking { get; init; }
}

/// <summary>
/// VMware can note in a file beside the disk which blocks changed since a backup. We cannot: what we write would be
/// missing from the next incremental backup.
/// </summary>
public enum VmdkChangeTracking
{
    /// <summary>Such a disk is not opened for writing.</summary>
    Refuse,

    /// <summary>It is; whoever says so sees to a full backup.</summary>
    Ignore,
}
