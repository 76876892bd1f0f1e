using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>eventfd(2): a counter that wakes whoever polls it.</summary>
public static unsafe partial class SysEventFd
{
    private const int EFD_NONBLOCK = 0x800;
    private const int EFD_CLOEXEC = 0x80000;

    /// <summary>A counter at zero. Throws <see cref="ErrnoException"/>.</summary>
    public static SafeFileHandle Create()
    {
        int fd = NativeEventFd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        return fd >= 0
            ? new SafeFileHandle(fd, true) : throw new ErrnoException("eventfd", null, Marshal.GetLastPInvokeError());
    }

    /// <summary>Adds one.</summary>
    public static void Signal(SafeFileHandle handle)
    {
        ulong one = 1;

        // SAFETY: the number lives on the stack during the call; the caller keeps the handle open.
        SysWrite.Write((int)handle.DangerousGetHandle(), &one, sizeof(ulong));
    }

    /// <summary>Back to zero.</summary>
    public static void Clear(SafeFileHandle handle)
    {
        ulong count;
        SysRead.Read((int)handle.DangerousGetHandle(), &count, sizeof(ulong));
    }

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    private static partial int NativeEventFd(uint initial, int flags);
}
