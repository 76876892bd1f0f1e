using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>renameat2(2).</summary>
public static partial class SysRenameat2
{
    /// <summary>Fail with EEXIST where the new name is taken.</summary>
    public const uint RENAME_NOREPLACE = 1;

    /// <summary>Both names must be taken; what they name changes places, in one step.</summary>
    public const uint RENAME_EXCHANGE = 2;

    /// <summary>0 or -errno; -EINVAL where the file system does not know a flag. Links are renamed, not followed.
    /// Names are bytes with a NUL at the end.</summary>
    public static int Rename(
        SafeFileHandle fromDirectory, byte[] from, SafeFileHandle toDirectory, byte[] to, uint flags) =>
        NativeRenameat2(fromDirectory, from, toDirectory, to, flags) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "renameat2", SetLastError = true)]
    private static partial int NativeRenameat2(
        SafeFileHandle fromDirectory, byte[] from, SafeFileHandle toDirectory, byte[] to, uint flags);
}
