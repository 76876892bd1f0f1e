using ImageMount.Fuse.Abi;
using ImageMount.Interop;

namespace ImageMount.Fuse.Transport;

/// <summary>The ioctls of /dev/fuse (linux/fuse.h, magic 229). All answer ≥ 0 or -errno.</summary>
internal static unsafe class FuseDeviceControl
{
    /// <summary>FUSE_DEV_IOC_CLONE: <paramref name="device"/>, freshly opened, joins the connection of
    /// <paramref name="original"/>.</summary>
    public static int Clone(int device, int original)
    {
        uint descriptor = (uint)original;
        // SAFETY: reads one uint32_t.
        return SysIoctl.Ioctl(device, FuseConstants.FUSE_DEV_IOC_CLONE, &descriptor);
    }

    /// <summary>FUSE_DEV_IOC_BACKING_OPEN: a backing id for <paramref name="file"/>.</summary>
    public static int BackingOpen(int device, int file)
    {
        // fuse_backing_map: fd, flags, padding
        int* map = stackalloc int[4] { file, 0, 0, 0 };
        // SAFETY: reads 16 bytes.
        return SysIoctl.Ioctl(device, FuseConstants.FUSE_DEV_IOC_BACKING_OPEN, map);
    }

    /// <summary>FUSE_DEV_IOC_BACKING_CLOSE: gives the id back.</summary>
    public static int BackingClose(int device, int backingId)
    {
        // SAFETY: reads one uint32_t.
        return SysIoctl.Ioctl(device, FuseConstants.FUSE_DEV_IOC_BACKING_CLOSE, &backingId);
    }
}
