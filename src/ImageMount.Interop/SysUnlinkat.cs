using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>unlinkat(2).</summary>
public static partial class SysUnlinkat
{
    private const int AT_REMOVEDIR = 0x200;

    /// <summary>0 or -errno. Links are removed, not followed.</summary>
    /// <param name="directory">Open folder.</param>
    /// <param name="name">Name in it, bytes with a NUL at the end: names need not be text.</param>
    /// <param name="isFolder">The name is that of an empty folder.</param>
    public static int Remove(SafeFileHandle directory, byte[] name, bool isFolder) =>
        NativeUnlinkat(directory, name, isFolder ? AT_REMOVEDIR : 0) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "unlinkat", SetLastError = true)]
    private static partial int NativeUnlinkat(SafeFileHandle directory, byte[] name, int flags);
}
