using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>read(2) on a bare descriptor, for devices and sockets (files use positional I/O).</summary>
public static unsafe partial class SysRead
{
    /// <summary>Bytes read, or -errno. EINTR is retried; EAGAIN is not.</summary>
    /// <param name="fd">Open descriptor; the caller keeps it open.</param>
    /// <param name="buffer">At least <paramref name="count"/> writable bytes, which stay where they are.</param>
    /// <param name="count">Bytes.</param>
    public static nint Read(int fd, void* buffer, nuint count)
    {
        while (true)
        {
            nint result = NativeRead(fd, buffer, count);
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
    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    private static partial nint NativeRead(int fd, void* buffer, nuint count);
}
