using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>lseek(2), for finding data and holes. The file position that it moves is one that nobody uses.</summary>
public static partial class SysLseek
{
    public const int SEEK_DATA = 3;
    public const int SEEK_HOLE = 4;

    /// <summary>The offset found, or -errno; -ENXIO: no data from here to the end of the file.</summary>
    public static long Seek(int fd, long offset, int whence)
    {
        while (true)
        {
            long result = NativeLseek(fd, offset, whence);
            if (result >= 0)
            {
                return result;
            }

            int errno = Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
            {
                return -errno;
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    private static partial long NativeLseek(int fd, long offset, int whence);
}
