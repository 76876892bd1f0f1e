using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>kill(2) with the signal that asks a process to end.</summary>
public static partial class SysKill
{
    private const int SIGTERM = 15;

    /// <summary>Sends SIGTERM. 0 or -errno (ESRCH: there is no such process).</summary>
    public static int Terminate(int pid) => NativeKill(pid, SIGTERM) < 0 ? -Marshal.GetLastPInvokeError() : 0;

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int NativeKill(int pid, int signal);
}
