using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>fchmod(2).</summary>
public static partial class SysFchmod
{
    /// <summary>0 or -errno.</summary>
    /// <param name="file">Open file or folder, not O_PATH.</param>
    /// <param name="mode">Permission bits.</param>
    public static int Change(SafeFileHandle file, uint mode)
    {
        while (true)
        {
            if (NativeFchmod(file, mode) == 0)
            {
                return 0;
            }

            int errno = Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
            {
                return -errno;
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "fchmod", SetLastError = true)]
    private static partial int NativeFchmod(SafeFileHandle file, uint mode);
}
