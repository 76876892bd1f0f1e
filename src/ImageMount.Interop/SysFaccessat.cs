using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>faccessat(2), by the effective ids: what a call would be allowed, not who started the program.</summary>
public static partial class SysFaccessat
{
    /// <summary>Entries of a folder may be made and removed, when they may be reached.</summary>
    public const int W_OK = 2;

    /// <summary>Entries of a folder may be reached.</summary>
    public const int X_OK = 1;

    private const int AT_EACCESS = 0x200;

    /// <summary>0, or -errno: -EACCES, -EROFS, or -EPERM for what nobody may change.</summary>
    /// <param name="folder">Open folder.</param>
    /// <param name="mode">W_OK, X_OK or both.</param>
    public static int Check(SafeFileHandle folder, int mode) =>
        NativeFaccessat(folder, ".", mode, AT_EACCESS) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "faccessat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int NativeFaccessat(SafeFileHandle directory, string path, int mode, int flags);
}
