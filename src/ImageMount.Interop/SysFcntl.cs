using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>fcntl(2), the descriptor flags and the status flags.</summary>
public static partial class SysFcntl
{
    private const int F_SETFD = 2;
    private const int F_GETFL = 3;
    private const int F_SETFL = 4;

    /// <summary>Lets children inherit the descriptor. Throws <see cref="ErrnoException"/>.</summary>
    public static void ClearCloseOnExec(SafeFileHandle handle) => Check(NativeFcntl(handle, F_SETFD, 0));

    /// <summary>Sets or clears O_NONBLOCK. Throws <see cref="ErrnoException"/>.</summary>
    public static void SetNonBlocking(SafeFileHandle handle, bool value)
    {
        int flags = Check(NativeFcntl(handle, F_GETFL, 0));
        flags = value ? flags | SysOpen.O_NONBLOCK : flags & ~SysOpen.O_NONBLOCK;
        Check(NativeFcntl(handle, F_SETFL, flags));
    }

    private static int Check(int result) =>
        result >= 0 ? result : throw new ErrnoException("fcntl", null, Marshal.GetLastPInvokeError());

    // fcntl(2) is variadic; see SysOpen.
    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int NativeFcntl(SafeFileHandle fd, int command, int argument);
}
