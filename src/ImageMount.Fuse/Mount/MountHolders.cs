using System.Globalization;

namespace ImageMount.Fuse.Mount;

/// <summary>Somebody who keeps a mount busy.</summary>
/// <param name="Pid">Process id; 0 for a loop device or another mount.</param>
/// <param name="Name">The process's comm, or the loop device (<c>/dev/loop0</c>).</param>
/// <param name="How"><c>cwd</c>, <c>root</c>, <c>exe</c>, <c>open file</c>, <c>mapped file</c>, <c>loop device</c>,
/// <c>loop device, mounted at DIR</c>, or <c>mount</c> (something is mounted below).</param>
/// <param name="Path">The path in the mount.</param>
public sealed record MountHolder(int Pid, string Name, string How, string Path);

/// <summary>
/// Finds out who keeps a mount busy, from /proc and /sys only: nothing here touches the mount itself, which may be
/// dead or hung. What may not be looked at (other users' processes, when not root) is left out.
/// </summary>
public static class MountHolders
{
    /// <summary>Everybody who uses a path at or below <paramref name="mountPoint"/> (absolute). One line per process
    /// and kind of use.</summary>
    public static IReadOnlyList<MountHolder> Find(string mountPoint)
    {
        string root = mountPoint.Length > 1 ? mountPoint.TrimEnd('/') : mountPoint;
        var holders = new List<MountHolder>();
        AddProcesses(root, holders);
        IReadOnlyList<MountEntry> mounts = MountTable.Read();
        AddLoopDevices(root, mounts, holders);
        foreach (MountEntry mount in mounts.Where(m => m.MountPoint != root && IsBelow(root, m.MountPoint)))
        {
            holders.Add(new MountHolder(0, mount.Source, "mount", mount.MountPoint));
        }
        return holders;
    }

    private static void AddProcesses(string root, List<MountHolder> holders)
    {
        foreach (string directory in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(directory), NumberStyles.None, CultureInfo.InvariantCulture, out int pid))
            {
                AddProcess(root, pid, directory, holders);
            }
        }
    }

    private static void AddProcess(string root, int pid, string directory, List<MountHolder> holders)
    {
        var uses = new List<(string How, string Path)>();
        foreach (string link in (ReadOnlySpan<string>)["cwd", "root", "exe"])
        {
            AddIfBelow(root, link, ReadLink($"{directory}/{link}"), uses);
        }
        try
        {
            foreach (string fd in Directory.EnumerateFileSystemEntries(directory + "/fd"))
            {
                AddIfBelow(root, "open file", ReadLink(fd), uses);
            }
            foreach (string line in File.ReadLines(directory + "/maps"))
            {
                // ADDRESS PERMISSIONS OFFSET DEVICE INODE, then the path from column 73 on.
                int slash = line.IndexOf('/', StringComparison.Ordinal);
                AddIfBelow(root, "mapped file", slash < 0 ? null : line[slash..], uses);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It has ended meanwhile, or belongs to somebody else.
        }
        if (uses.Count == 0)
        {
            return;
        }
        string name = Comm(directory);
        foreach ((string how, string path) in uses.Distinct())
        {
            holders.Add(new MountHolder(pid, name, how, path));
        }
    }

    private static void AddLoopDevices(string root, IReadOnlyList<MountEntry> mounts, List<MountHolder> holders)
    {
        if (!Directory.Exists("/sys/block"))
        {
            return;
        }
        foreach (string device in Directory.EnumerateFileSystemEntries("/sys/block", "loop*"))
        {
            string? file = ReadText(device + "/loop/backing_file");
            if (file is null || !IsBelow(root, file))
            {
                continue;
            }
            string name = "/dev/" + Path.GetFileName(device);
            string number = ReadText(device + "/dev") ?? "";
            MountEntry[] users = [.. mounts.Where(m => m.Device == number || m.Source == name
                || m.Source.StartsWith(name + "p", StringComparison.Ordinal))];
            if (users.Length == 0)
            {
                holders.Add(new MountHolder(0, name, "loop device", file));
            }
            foreach (MountEntry user in users)
            {
                holders.Add(new MountHolder(0, name, "loop device, mounted at " + user.MountPoint, file));
            }
        }
    }

    private static void AddIfBelow(string root, string how, string? path, List<(string How, string Path)> uses)
    {
        if (path is not null && IsBelow(root, path))
        {
            uses.Add((how, path));
        }
    }

    // A file that was removed is shown with " (deleted)" at its end; the prefix decides all the same.
    private static bool IsBelow(string root, string path) =>
        path.StartsWith(root, StringComparison.Ordinal)
        && (path.Length == root.Length || path[root.Length] == '/' || root == "/"
            || path.AsSpan(root.Length).SequenceEqual(" (deleted)"));

    private static string Comm(string directory) => ReadText(directory + "/comm") ?? "?";

    private static string? ReadLink(string link)
    {
        try
        {
            // readlink(2) only: resolving further would touch the mount.
            return File.ResolveLinkTarget(link, returnFinalTarget: false)?.FullName;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string? ReadText(string file)
    {
        try
        {
            // Not ReadAllBytes: files in /sys say they have 4096 bytes, and it believes them.
            return File.ReadAllText(file).TrimEnd('\n');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
