using System.Globalization;
using System.Text;
using ImageMount.Interop;

namespace ImageMount.Protocols.Files;

/// <summary>
/// Finds out who holds a lock. The kernel does not tell for OFD locks, which belong to no process, but
/// /proc/PID/fdinfo shows the locks of every descriptor that we may see. Only ever read to word an error message, so
/// everything that cannot be read is passed over.
/// </summary>
internal static class LockHolders
{
    private const int MaxNamed = 3;

    /// <summary>"qemu-io (pid 123)"; several are joined.</summary>
    /// <param name="ownFd">Our own descriptor, which may hold the same locks.</param>
    /// <param name="path">Path of the file.</param>
    /// <param name="stat">Of the file.</param>
    /// <param name="position">Byte on which the locks stand against each other.</param>
    /// <param name="knownHolder">Process that the kernel named; 0 or -1 when it named none.</param>
    public static string Describe(int ownFd, string path, StatInfo stat, long position, int knownHolder)
    {
        if (knownHolder > 0)
        {
            return DescribeProcess(knownHolder, path);
        }

        bool sawAll = true;
        var holders = new List<int>();
        foreach (string directory in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(directory), NumberStyles.None, CultureInfo.InvariantCulture, out int pid)
                && Holds(directory, pid == Environment.ProcessId ? ownFd : -1, stat, position, ref sawAll))
            {
                holders.Add(pid);
            }
        }

        if (holders.Count == 0)
        {
            return sawAll
                ? "a process that is not visible from here (in another container, or on another host)"
                : "a process of another user";
        }

        string named = string.Join(" and ", holders.Take(MaxNamed).Select(pid => DescribeProcess(pid, path)));
        return holders.Count > MaxNamed ? $"{named} and {holders.Count - MaxNamed} more" : named;
    }

    private static bool Holds(string process, int exceptFd, StatInfo stat, long position, ref bool sawAll)
    {
        try
        {
            foreach (string file in Directory.EnumerateFiles(process + "/fdinfo"))
            {
                if (exceptFd >= 0 && Path.GetFileName(file) == exceptFd.ToString(CultureInfo.InvariantCulture))
                {
                    continue;
                }

                foreach (string line in ReadLines(file))
                {
                    if (IsLockOn(line, stat, position))
                    {
                        return true;
                    }
                }
            }
        }
        catch (UnauthorizedAccessException)
        {
            sawAll = false;
        }
        catch (IOException)
        {
            // The process has ended.
        }

        return false;
    }

    /// <summary>A descriptor that is closed meanwhile is no reason to pass over the others.</summary>
    private static string[] ReadLines(string file)
    {
        try
        {
            return File.ReadAllLines(file);
        }
        catch (IOException)
        {
            return [];
        }
    }

    /// <summary>
    /// "lock:	1: OFDLCK ADVISORY  READ -1 fe:00:11657934 100 101", the end being "EOF" for no end. The device is not
    /// compared: what the kernel shows here is the superblock's, which on btrfs and overlayfs is not the file's.
    /// </summary>
    internal static bool IsLockOn(string line, StatInfo stat, long position)
    {
        if (!line.StartsWith("lock:", StringComparison.Ordinal))
        {
            return false;
        }

        string[] parts = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        return parts.Length >= 9
            && parts[2] is "OFDLCK" or "POSIX"
            && ulong.TryParse(parts[6].AsSpan(parts[6].LastIndexOf(':') + 1), NumberStyles.None, null, out ulong inode)
            && inode == stat.Inode
            && long.TryParse(parts[7], NumberStyles.None, CultureInfo.InvariantCulture, out long start)
            && start <= position
            && (parts[8] == "EOF"
                || (long.TryParse(parts[8], NumberStyles.None, CultureInfo.InvariantCulture, out long end)
                    && position <= end));
    }

    private static string DescribeProcess(int pid, string path)
    {
        if (pid == Environment.ProcessId)
        {
            return "this program itself";
        }

        string program = ProgramName(pid);
        string? mount = program.StartsWith("imgmount", StringComparison.Ordinal) ? MountPointOf(path) : null;
        return mount is null ? $"{program} (pid {pid})" : $"{program} (pid {pid}, mounted at {mount})";
    }

    private static string ProgramName(int pid)
    {
        try
        {
            // Not "comm", which ends after 15 characters: "qemu-system-x86".
            string[] arguments = File.ReadAllText($"/proc/{pid}/cmdline")
                .Split('\0', StringSplitOptions.RemoveEmptyEntries);
            string program = arguments.Length > 0 ? Path.GetFileName(arguments[0]) : "";
            if (program == "dotnet")
            {
                string? assembly = arguments.FirstOrDefault(a => a.EndsWith(".dll", StringComparison.Ordinal));
                program = assembly is null ? program : Path.GetFileNameWithoutExtension(assembly);
            }

            return program.Length > 0 ? program : File.ReadAllText($"/proc/{pid}/comm").Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "a program";
        }
    }

    /// <summary>The mount of imgmount that shows an image, or null.</summary>
    private static string? MountPointOf(string path)
    {
        try
        {
            return FindMount(File.ReadLines("/proc/self/mountinfo"), Path.GetFullPath(path));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // The pid has to do.
        }
    }

    /// <summary>imgmount's mounts have the type fuse.imgmount, and the image as their source.</summary>
    /// <param name="mountInfo">Lines such as
    /// "36 25 0:52 / /mnt/x rw,relatime shared:1 - fuse.imgmount /disk.qcow2 rw,user_id=0" (proc_pid_mountinfo(5)).
    /// </param>
    /// <param name="fullPath">Of the image.</param>
    internal static string? FindMount(IEnumerable<string> mountInfo, string fullPath)
    {
        foreach (string line in mountInfo)
        {
            string[] halves = line.Split(" - ", 2);
            string[] left = halves[0].Split(' ');
            string[] right = halves.Length == 2 ? halves[1].Split(' ') : [];
            if (right.Length >= 2 && left.Length >= 5
                && right[0] == "fuse.imgmount" && Unescape(right[1]) == fullPath)
            {
                return Unescape(left[4]);
            }
        }

        return null;
    }

    /// <summary>mountinfo writes space, tab, newline and backslash as three octal digits.</summary>
    private static string Unescape(string text)
    {
        var result = new StringBuilder();
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] == '\\' && i + 3 < text.Length)
            {
                result.Append((char)(((text[i + 1] - '0') << 6) | ((text[i + 2] - '0') << 3) | (text[i + 3] - '0')));
                i += 3;
            }
            else
            {
                result.Append(text[i]);
            }
        }

        return result.ToString();
    }
}
