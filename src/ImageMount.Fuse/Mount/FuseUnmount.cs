using ImageMount.Interop;

namespace ImageMount.Fuse.Mount;

/// <summary>Takes mounts down, with umount2(2) when root and with <c>fusermount3 -u</c> otherwise.</summary>
public static class FuseUnmount
{
    /// <summary>Unmounts what is mounted at <paramref name="mountPoint"/>; blocks until the kernel has written its
    /// dirty pages through the mount, so never call it on one of the session's workers.</summary>
    /// <param name="mountPoint">Absolute path.</param>
    /// <param name="lazy">Detach even if busy: gone from the tree now, ended when the last user lets go.</param>
    /// <param name="force">When root, first cut the connection (MNT_FORCE): whoever waits gets an error, delayed writes
    /// are lost. Ordinary users cannot.</param>
    /// <exception cref="FuseMountException"><see cref="FuseMountFailure.Busy"/>,
    /// <see cref="FuseMountFailure.NotMounted"/> and so on.</exception>
    public static void Unmount(string mountPoint, bool lazy = false, bool force = false)
    {
        if (SysUser.EffectiveId == 0)
        {
            int flags = SysUmount.UMOUNT_NOFOLLOW | (lazy ? SysUmount.MNT_DETACH : 0)
                | (force ? SysUmount.MNT_FORCE : 0);
            int result = SysUmount.Unmount(mountPoint, flags);
            if (result < 0)
            {
                throw Failure(mountPoint, -result);
            }
            return;
        }
        UnmountAsUser(mountPoint, lazy);
    }

    /// <summary>Detaches and, when root, cuts the connection; false when that is not possible (any more).</summary>
    public static bool TryCutOff(string mountPoint)
    {
        try
        {
            Unmount(mountPoint, lazy: true, force: true);
            return true;
        }
        catch (FuseMountException)
        {
            return false;
        }
    }

    private static void UnmountAsUser(string mountPoint, bool lazy)
    {
        (int exitCode, string errors) = Fusermount.Run(
            mountPoint, lazy ? ["-u", "-z", "--", mountPoint] : ["-u", "--", mountPoint]);
        if (exitCode == 0)
        {
            return;
        }
        // fusermount3 tells its errors in words only.
        if (errors.Contains("busy", StringComparison.OrdinalIgnoreCase))
        {
            throw Failure(mountPoint, Errno.EBUSY);
        }
        if (errors.Contains("not found in", StringComparison.Ordinal)
            || errors.Contains("not mounted", StringComparison.OrdinalIgnoreCase))
        {
            throw Failure(mountPoint, Errno.EINVAL);
        }
        throw new FuseMountException(
            FuseMountFailure.Other, mountPoint,
            $"Cannot unmount {mountPoint}: {errors.Trim()} (fusermount3 ended with {exitCode}).");
    }

    private static FuseMountException Failure(string mountPoint, int errno) => errno switch
    {
        Errno.EBUSY => new(FuseMountFailure.Busy, mountPoint, $"Cannot unmount {mountPoint}: it is in use."),
        Errno.EINVAL => new(FuseMountFailure.NotMounted, mountPoint, $"Nothing is mounted at {mountPoint}."),
        Errno.ENOENT => new(FuseMountFailure.MountPointMissing, mountPoint, $"{mountPoint} does not exist."),
        _ => new(FuseMountFailure.Other, mountPoint, $"Cannot unmount {mountPoint}: {Errno.Format(errno)}."),
    };
}
