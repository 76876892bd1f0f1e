using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>dup2(2).</summary>
public static partial class SysDup2
{
    /// <summary>Makes descriptor <paramref name="target"/> (0, 1 or 2, usually) mean the same as <paramref name="source"/>.
    /// 0 or -errno; EINTR is retried.</summary>
    public static int Dup2(SafeFileHandle source, int target)
    {
        while (NativeDup2(source, target) < 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
            {
                return -errno;
            }
        }

        return 0;
    }

    [LibraryImport("libc", EntryPoint = "dup2", SetLastError = true)]
    private static partial int NativeDup2(SafeFileHandle source, int target);
}
