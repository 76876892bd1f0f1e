using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>setsid(2): a session of one's own, so that the terminal's signals and its end do not reach the process.</summary>
public static partial class SysSetsid
{
    /// <summary>0 or -errno (EPERM: already a leader).</summary>
    public static int Setsid() => NativeSetsid() < 0 ? -Marshal.GetLastPInvokeError() : 0;

    [LibraryImport("libc", EntryPoint = "setsid", SetLastError = true)]
    private static partial int NativeSetsid();
}
