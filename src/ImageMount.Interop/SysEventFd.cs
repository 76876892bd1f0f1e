using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>eventfd(2): a counter to wait for.</summary>
public static unsafe partial class SysEventFd
{
    private const int EFD_CLOEXEC = 0x80000;

    /// <summary>A counter at 0, blocking. Throws <see cref="ErrnoException"/>.</summary>
    public static SafeFileHandle Create()
    {
        int fd = NativeEventFd(0, EFD_CLOEXEC);
        return fd < 0
            ? throw new ErrnoException("eventfd", "", Marshal.GetLastPInvokeError())
            : new SafeFileHandle(fd, ownsHandle: true);
    }

    /// <summary>Adds one, which wakes whoever reads. The caller keeps the descriptor open.</summary>
    public static void Signal(int fd)
    {
        ulong one = 1;

        // SAFETY: reads eight bytes. It cannot fail: nobody counts up to 2^64.
        SysWrite.Write(fd, &one, sizeof(ulong));
    }

    // SAFETY: takes numbers.
    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    private static partial int NativeEventFd(uint initial, int flags);
}
