using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>fsync(2): data and all metadata of a file, or the names in a folder.</summary>
public static partial class SysFsync
{
    /// <summary>0 or -errno. EINTR is retried; after another error the answer of a second call is worth
    /// nothing.</summary>
    public static int Sync(SafeFileHandle file)
    {
        while (true)
        {
            if (NativeFsync(file) == 0)
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

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int NativeFsync(SafeFileHandle file);
}
