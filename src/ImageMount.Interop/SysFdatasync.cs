using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>fdatasync(2): data, and as much metadata (size, mapping) as is needed to read it back.</summary>
public static partial class SysFdatasync
{
    /// <summary>0 or -errno. EINTR is retried. Never call it again after another error and believe the answer: the
    /// kernel reports a failure once and drops what it could not write.</summary>
    public static int Sync(int fd)
    {
        while (true)
        {
            if (NativeFdatasync(fd) == 0)
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

    [LibraryImport("libc", EntryPoint = "fdatasync", SetLastError = true)]
    private static partial int NativeFdatasync(int fd);
}
