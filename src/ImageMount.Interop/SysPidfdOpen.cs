using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>pidfd_open(2): a descriptor that stands for a process, whoever's child it is.</summary>
public static partial class SysPidfdOpen
{
    private const nint PidfdOpenNumber = 434; // the same on every architecture

    /// <summary>The descriptor, or null and a positive errno (ESRCH: there is no such process).</summary>
    public static SafeFileHandle? TryOpen(int pid, out int errno)
    {
        nint fd = NativeSyscall(PidfdOpenNumber, pid, 0);
        errno = fd < 0 ? Marshal.GetLastPInvokeError() : 0;
        return fd < 0 ? null : new SafeFileHandle(fd, ownsHandle: true);
    }

    // syscall(2) is variadic; integers are passed alike on x86-64 and Linux arm64.
    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint NativeSyscall(nint number, nint pid, nint flags);
}
