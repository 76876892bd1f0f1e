using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>ioctl(2) with a pointer to a structure.</summary>
public static unsafe partial class SysIoctl
{
    /// <summary>What ioctl(2) returns (≥ 0), or -errno. EINTR is retried.</summary>
    /// <param name="fd">Open descriptor.</param>
    /// <param name="request">Command.</param>
    /// <param name="argument">Structure the command wants, as large as the command says.</param>
    public static int Ioctl(int fd, uint request, void* argument)
    {
        while (true)
        {
            int result = NativeIoctl(fd, request, argument);
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

    // SAFETY: the pointer is only used during the call.
    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static partial int NativeIoctl(int fd, nuint request, void* argument);
}
