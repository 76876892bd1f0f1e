using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>kill(2) on a process group, with the signal that cannot be refused.</summary>
public static partial class SysKillGroup
{
    private const int SIGKILL = 9;

    /// <summary>Ends all processes of a group. 0 or -errno (ESRCH: there is no such group).</summary>
    /// <param name="leader">Process id of the one that made the group; more than 1.</param>
    public static int Kill(int leader) => leader <= 1 ? -Errno.EINVAL
        : NativeKill(-leader, SIGKILL) < 0 ? -Marshal.GetLastPInvokeError() : 0;

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int NativeKill(int pid, int signal);
}
