using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>write(2) on a bare descriptor, for devices and sockets (files use positional I/O).</summary>
public static unsafe partial class SysWrite
{
    /// <summary>Bytes written, or -errno. EINTR is retried.</summary>
    public static nint Write(int fd, void* buffer, nuint count)
    {
        while (true)
        {
            nint result = NativeWrite(fd, buffer, count);
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
    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    private static partial nint NativeWrite(int fd, void* buffer, nuint count);
}
