using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>fchown(2).</summary>
public static partial class SysFchown
{
    /// <summary>0 or -errno.</summary>
    /// <param name="file">Open file or folder, not O_PATH.</param>
    /// <param name="uid">Owner.</param>
    /// <param name="gid">Group.</param>
    public static int Change(SafeFileHandle file, uint uid, uint gid)
    {
        while (true)
        {
            if (NativeFchown(file, uid, gid) == 0)
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

    [LibraryImport("libc", EntryPoint = "fchown", SetLastError = true)]
    private static partial int NativeFchown(SafeFileHandle file, uint uid, uint gid);
}
