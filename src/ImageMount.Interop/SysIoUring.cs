using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>io_uring_setup(2) and io_uring_enter(2).</summary>
public static unsafe partial class SysIoUring
{
    private const nint SetupNumber = 425; // the same on every architecture
    private const nint EnterNumber = 426;

    /// <summary>A ring's descriptor, or null and a positive errno.</summary>
    /// <param name="entries">Submission entries wanted; the kernel rounds up to a power of two.</param>
    /// <param name="parameters">struct io_uring_params, 120 bytes, in and out.</param>
    /// <param name="errno">0 on success.</param>
    public static SafeFileHandle? TrySetup(uint entries, byte* parameters, out int errno)
    {
        // SAFETY: reads and writes 120 bytes of parameters, during the call only.
        nint fd = NativeSyscall(SetupNumber, (nint)entries, (nint)parameters, 0, 0, 0, 0);
        errno = fd < 0 ? Marshal.GetLastPInvokeError() : 0;
        return fd < 0 ? null : new SafeFileHandle(fd, ownsHandle: true);
    }

    /// <summary>Entries taken, or -errno; EINTR included.</summary>
    /// <param name="ring">The ring's descriptor; the caller keeps it open.</param>
    /// <param name="submit">Entries to take.</param>
    /// <param name="wait">Completions to wait for.</param>
    /// <param name="flags">IORING_ENTER_*.</param>
    public static int Enter(int ring, uint submit, uint wait, uint flags)
    {
        nint result = NativeSyscall(EnterNumber, ring, (nint)submit, (nint)wait, (nint)flags, 0, 0);
        return result < 0 ? -Marshal.GetLastPInvokeError() : (int)result;
    }

    // syscall(2) is variadic; integers are passed alike on x86-64 and Linux arm64.
    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint NativeSyscall(
        nint number, nint first, nint second, nint third, nint fourth, nint fifth, nint sixth);
}
