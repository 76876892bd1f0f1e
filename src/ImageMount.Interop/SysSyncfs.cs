using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>syncfs(2): writes back everything that the kernel delays of the file system a descriptor lies on.</summary>
public static partial class SysSyncfs
{
    /// <summary>0 or -errno.</summary>
    public static int Syncfs(SafeFileHandle handle) => NativeSyncfs(handle) < 0 ? -Marshal.GetLastPInvokeError() : 0;

    [LibraryImport("libc", EntryPoint = "syncfs", SetLastError = true)]
    private static partial int NativeSyncfs(SafeFileHandle handle);
}
