namespace ImageMount.Interop;

/// <summary>The ioctls of block devices (linux/fs.h). All return 0 or -errno.</summary>
public static unsafe class BlockDeviceControl
{
    private const uint BLKSSZGET = 0x1268;
    private const uint BLKDISCARD = 0x1277;
    private const uint BLKZEROOUT = 0x127F;
    private const uint BLKGETSIZE64 = 0x80081272;

    /// <summary>Size of the device in bytes.</summary>
    public static int TryGetSize(int fd, out long size)
    {
        // SAFETY: the kernel writes 8 bytes.
        ulong value = 0;
        int result = SysIoctl.Ioctl(fd, BLKGETSIZE64, &value);
        size = (long)value;
        return result < 0 ? result : 0;
    }

    /// <summary>Logical block size: the unit of direct I/O, zeroing and discarding, bytes.</summary>
    public static int TryGetLogicalBlockSize(int fd, out int size)
    {
        // SAFETY: the kernel writes an int.
        int value = 0;
        int result = SysIoctl.Ioctl(fd, BLKSSZGET, &value);
        size = value;
        return result < 0 ? result : 0;
    }

    /// <summary>Gives up a range; multiples of the logical block size.</summary>
    public static int Discard(int fd, long offset, long count) => Range(fd, BLKDISCARD, offset, count);

    /// <summary>Zeroes a range; multiples of the logical block size.</summary>
    public static int ZeroOut(int fd, long offset, long count) => Range(fd, BLKZEROOUT, offset, count);

    private static int Range(int fd, uint request, long offset, long count)
    {
        // SAFETY: the kernel reads two 64-bit numbers.
        ulong* range = stackalloc ulong[2];
        range[0] = (ulong)offset;
        range[1] = (ulong)count;
        int result = SysIoctl.Ioctl(fd, request, range);
        return result < 0 ? result : 0;
    }
}
