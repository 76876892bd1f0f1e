using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>fallocate(2): allocating, punching and zeroing ranges of files and block devices.</summary>
public static partial class SysFallocate
{
    public const int FALLOC_FL_KEEP_SIZE = 1;
    public const int FALLOC_FL_PUNCH_HOLE = 2;
    public const int FALLOC_FL_ZERO_RANGE = 0x10;

    /// <summary>0 or -errno. EINTR is retried: done again from the start, which these modes permit.</summary>
    public static int Allocate(int fd, int mode, long offset, long count)
    {
        while (true)
        {
            if (NativeFallocate(fd, mode, offset, count) == 0)
            {
                return 0;
            }

            int errno = Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
            {
                return -errno;
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    private static partial int NativeFallocate(int fd, int mode, long offset, long count);
}
