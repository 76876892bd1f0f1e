using System.Globalization;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Cli.Background;

/// <summary>Finds out about the process that serves a mount.</summary>
public static class ServerProcess
{
    /// <summary>
    /// Start time of a process in the kernel's ticks (proc(5): stat, field 22); 0 when there is no such process.
    /// </summary>
    public static ulong StartTimeOf(int pid)
    {
        try
        {
            string stat = File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/stat"));

            // The second field is the name in parentheses, and may itself hold anything; count from its end.
            string[] fields = stat[(stat.LastIndexOf(')') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
            const int StartTimeField = 22 - 3;
            return fields.Length > StartTimeField && fields[0] is not ("Z" or "X")
                && ulong.TryParse(fields[StartTimeField], CultureInfo.InvariantCulture, out ulong ticks) ? ticks : 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return 0;
        }
    }

    /// <summary>True while the process that wrote a note still runs.</summary>
    public static bool IsRunning(MountState state) => StartTimeOf(state.Pid) == state.StartTime && state.StartTime != 0;

    /// <summary>Waits until the process that wrote a note has ended.</summary>
    /// <param name="state">Its note.</param>
    /// <param name="patienceMs">After so long, <paramref name="impatient"/> is called once.</param>
    /// <param name="impatient">Tells the user what is being waited for.</param>
    public static void WaitForEnd(MountState state, int patienceMs, Action impatient)
    {
        using SafeFileHandle? process = SysPidfdOpen.TryOpen(state.Pid, out _);
        if (process is null || !IsRunning(state))
        {
            return;
        }

        int timeout = patienceMs;
        while (true)
        {
            int result = SysPoll.WaitReadable(process, timeout);
            if (result is 1 or (< 0 and not -Errno.EINTR))
            {
                return;
            }

            if (result == 0)
            {
                impatient();
                timeout = -1;
            }
        }
    }
}
