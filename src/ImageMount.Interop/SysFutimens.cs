using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>futimens(3).</summary>
public static unsafe partial class SysFutimens
{
    private const long UTIME_OMIT = (1L << 30) - 2;
    private const long NanosecondsPerSecond = 1_000_000_000;

    /// <summary>Sets the time of the last change; that of the last access stays. 0 or -errno.</summary>
    /// <param name="file">Open file or folder, not O_PATH.</param>
    /// <param name="modifiedNs">Nanoseconds since 1970, UTC; may be negative.</param>
    public static int SetModified(SafeFileHandle file, long modifiedNs)
    {
        long seconds = Math.DivRem(modifiedNs, NanosecondsPerSecond, out long nanoseconds);
        if (nanoseconds < 0)
        {
            seconds--;
            nanoseconds += NanosecondsPerSecond;
        }

        // SAFETY: two struct timespec of two longs each, as on every 64-bit Linux; the call only reads them.
        long* times = stackalloc long[] { 0, UTIME_OMIT, seconds, nanoseconds };
        return NativeFutimens(file, times) == 0 ? 0 : -Marshal.GetLastPInvokeError();
    }

    [LibraryImport("libc", EntryPoint = "futimens", SetLastError = true)]
    private static partial int NativeFutimens(SafeFileHandle file, long* times);
}
