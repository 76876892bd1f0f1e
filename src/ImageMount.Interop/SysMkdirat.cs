using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>mkdirat(2).</summary>
public static partial class SysMkdirat
{
    /// <summary>0 or -errno.</summary>
    /// <param name="directory">Open folder.</param>
    /// <param name="name">Name in it, bytes with a NUL at the end: names need not be text.</param>
    /// <param name="mode">Permissions, before umask.</param>
    public static int Make(SafeFileHandle directory, byte[] name, uint mode) =>
        NativeMkdirat(directory, name, mode) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "mkdirat", SetLastError = true)]
    private static partial int NativeMkdirat(SafeFileHandle directory, byte[] name, uint mode);
}
