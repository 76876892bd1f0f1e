using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>linkat(2).</summary>
public static partial class SysLinkat
{
    /// <summary>Gives a file a second name, which must be free: 0 or -errno. Names are bytes with a NUL at the end.
    /// </summary>
    public static int Link(SafeFileHandle fromDirectory, byte[] from, SafeFileHandle toDirectory, byte[] to) =>
        NativeLinkat(fromDirectory, from, toDirectory, to, 0) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "linkat", SetLastError = true)]
    private static partial int NativeLinkat(
        SafeFileHandle fromDirectory, byte[] from, SafeFileHandle toDirectory, byte[] to, int flags);
}
