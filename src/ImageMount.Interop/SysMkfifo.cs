using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>mkfifo(3): a named pipe.</summary>
public static partial class SysMkfifo
{
    /// <summary>0 or -errno.</summary>
    /// <param name="path">Path.</param>
    /// <param name="mode">Permissions, before umask.</param>
    public static int Make(string path, uint mode) =>
        NativeMkfifo(path, mode) < 0 ? -Marshal.GetLastPInvokeError() : 0;

    [LibraryImport("libc", EntryPoint = "mkfifo", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int NativeMkfifo(string path, uint mode);
}
