namespace ImageMount.Fuse.Mount;

/// <summary>Why a mount could not be made or removed.</summary>
public enum FuseMountFailure
{
    /// <summary>Anything else; the message has the system's own words.</summary>
    Other,

    /// <summary>/dev/fuse is missing or may not be opened.</summary>
    NoFuseDevice,

    /// <summary>fusermount3 is missing (Debian: package fuse3) and we are not root.</summary>
    NoFusermount,

    /// <summary>Non-root asked for allow_other, and /etc/fuse.conf does not allow it.</summary>
    AllowOtherForbidden,

    /// <summary>The mount point does not exist.</summary>
    MountPointMissing,

    /// <summary>The mount point is a directory with something in it.</summary>
    MountPointNotEmpty,

    /// <summary>The mount point is neither a directory nor a regular file.</summary>
    MountPointWrongType,

    /// <summary>The mount point may not be used by this user.</summary>
    MountPointForbidden,

    /// <summary>A dead mount (its server died) lies there: <see cref="MountTable.TryDetachDead"/>.</summary>
    MountPointDead,

    /// <summary>Unmounting: somebody uses it. <see cref="MountHolders.Find"/> tells who.</summary>
    Busy,

    /// <summary>Unmounting: nothing is mounted there.</summary>
    NotMounted,

    /// <summary>The kernel's FUSE is too old, or INIT failed.</summary>
    Negotiation,
}

/// <summary>A mount or unmount failed; the message says what, on what, and what to do.</summary>
public sealed class FuseMountException(
    FuseMountFailure failure, string mountPoint, string message, Exception? inner = null) : IOException(message, inner)
{
    /// <summary>The kind of failure.</summary>
    public FuseMountFailure Failure { get; } = failure;

    /// <summary>The mount point in question.</summary>
    public string MountPoint { get; } = mountPoint;
}
