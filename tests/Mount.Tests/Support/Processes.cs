using System.Diagnostics;
using System.Runtime.InteropServices;

namespace ImageMount.Mount.Tests.Support;

/// <summary>Signals to, and questions about, processes that these tests started.</summary>
public static partial class Processes
{
    public const int SigInt = 2;
    public const int SigKill = 9;
    public const int SigTerm = 15;

    public static void Signal(int pid, int signal) =>
        Assert.True(kill(pid, signal) == 0, $"cannot signal process {pid}: errno {Marshal.GetLastPInvokeError()}");

    /// <summary>True while the process can run; a zombie nobody has collected yet cannot.</summary>
    public static bool IsAlive(int pid)
    {
        try
        {
            string state = File.ReadAllText($"/proc/{pid}/stat");
            return state[(state.LastIndexOf(')') + 2)..][0] is not ('Z' or 'X');
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>True while the process has the FUSE device, or a file below a folder, open.</summary>
    public static bool HoldsFiles(int pid, string folder)
    {
        try
        {
            return IsAlive(pid) && Directory.EnumerateFileSystemEntries($"/proc/{pid}/fd").Any(entry =>
                File.ResolveLinkTarget(entry, false) is { } target &&
                (target.FullName == "/dev/fuse" ||
                    target.FullName.StartsWith(folder + "/", StringComparison.Ordinal)));
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>Waits until a process has ended, by a descriptor that becomes readable then.</summary>
    public static void WaitUntilEnded(int pid)
    {
        try
        {
            using Process process = Process.GetProcessById(pid);
            Assert.True(process.WaitForExit(TimeSpan.FromSeconds(60)), $"process {pid} did not end");
        }
        catch (ArgumentException)
        {
            // It has ended already.
        }
    }

    /// <summary>
    /// Ends a process, if the pid still belongs to an imgmount, and removes the note that a killed mount leaves behind for
    /// 'imgmount list'.
    /// </summary>
    public static void KillIfOurs(int pid)
    {
        try
        {
            if (File.ReadAllText($"/proc/{pid}/cmdline").Contains("imgmount", StringComparison.Ordinal))
            {
                _ = kill(pid, SigKill);
            }
        }
        catch (IOException)
        {
            // It has ended already.
        }

        foreach (string folder in (string[])["/run/imgmount", "/tmp/imgmount-65534"])
        {
            if (Directory.Exists(folder))
            {
                File.Delete(Path.Combine(folder, $"{pid}.json"));
                File.Delete(Path.Combine(folder, $"{pid}.log"));
            }
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);
}
