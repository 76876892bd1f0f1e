using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>flistxattr(2).</summary>
public static unsafe partial class SysListXattr
{
    private const int MaxList = 64 << 10; // XATTR_LIST_MAX

    /// <summary>Names of the extended attributes; empty where the file system has none. 0 or -errno.</summary>
    public static int TryList(SafeFileHandle file, out IReadOnlyList<string> names)
    {
        names = [];
        byte[] buffer = new byte[MaxList];
        nint length;

        // SAFETY: the buffer is pinned for the call, which writes no more than its length.
        fixed (byte* pointer = buffer)
        {
            length = NativeList(file, pointer, MaxList);
        }

        if (length < 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            return errno == Errno.EOPNOTSUPP ? 0 : -errno;
        }

        names = Encoding.UTF8.GetString(buffer, 0, (int)length)
            .Split('\0', StringSplitOptions.RemoveEmptyEntries);
        return 0;
    }

    [LibraryImport("libc", EntryPoint = "flistxattr", SetLastError = true)]
    private static partial nint NativeList(SafeFileHandle file, byte* list, nuint size);
}
