using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>ftruncate(2).</summary>
public static partial class SysFtruncate
{
    /// <summary>0 or -errno. EINTR is retried.</summary>
    /// <param name="fd">Open descriptor of a regular file.</param>
    /// <param name="length">New length in bytes; what is new reads as zeroes.</param>
    public static int Truncate(int fd, long length)
    {
        while (true)
        {
            if (NativeFtruncate(fd, length) == 0)
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

    [LibraryImport("libc", EntryPoint = "ftruncate", SetLastError = true)]
    private static partial int NativeFtruncate(int fd, long length);
}
