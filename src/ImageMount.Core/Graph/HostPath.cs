using ImageMount.Core.Block;

namespace ImageMount.Core.Graph;

/// <summary>Paths of this host without symbolic links, to tell whether a reference leaves a folder.</summary>
internal static class HostPath
{
    /// <summary>As many links as the kernel follows for one path (ELOOP after that).</summary>
    private const int MaxLinks = 40;

    private static readonly string[] s_specialRoots = ["/dev", "/proc", "/sys"];

    /// <summary>
    /// The absolute path with every symbolic link followed. Parts that do not exist stay as they are: opening them will
    /// fail by itself, with a better message.
    /// </summary>
    public static string Resolve(string path)
    {
        var pending = new Stack<string>();
        PushParts(pending, Path.Join(Path.IsPathRooted(path) ? "" : Environment.CurrentDirectory, path));
        string resolved = "/";
        int links = 0;
        while (pending.TryPop(out string? part))
        {
            if (part == "..")
            {
                resolved = Path.GetDirectoryName(resolved) ?? "/";
                continue;
            }

            string next = Path.Join(resolved, part);
            string? target = LinkTarget(next);
            if (target is null)
            {
                resolved = next;
                continue;
            }

            if (++links > MaxLinks)
            {
                throw BlockException.Limit($"'{path}' passes through too many symbolic links", links, MaxLinks);
            }

            if (Path.IsPathRooted(target))
            {
                resolved = "/";
            }

            PushParts(pending, target);
        }

        return resolved;
    }

    /// <summary>True when a resolved path is the folder or lies below it.</summary>
    public static bool IsInside(string resolvedPath, string resolvedFolder) =>
        resolvedFolder == "/"
        || resolvedPath == resolvedFolder
        || resolvedPath.StartsWith(resolvedFolder + "/", StringComparison.Ordinal);

    /// <summary>
    /// True for devices and the kernel's own file systems, which no image has business to name. (/dev/shm holds
    /// ordinary files.)
    /// </summary>
    public static bool IsSpecial(string resolvedPath) =>
        Array.Exists(s_specialRoots, root => IsInside(resolvedPath, root)) && !IsInside(resolvedPath, "/dev/shm");

    /// <summary>The folder of a file, "." for a bare name.</summary>
    public static string FolderOf(string path)
    {
        string? folder = Path.GetDirectoryName(path);
        return string.IsNullOrEmpty(folder) ? (path.StartsWith('/') ? "/" : ".") : folder;
    }

    private static string? LinkTarget(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null; // Whoever opens the path meets the same obstacle and reports it.
        }
    }

    private static void PushParts(Stack<string> pending, string path)
    {
        string[] parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries);
        for (int i = parts.Length - 1; i >= 0; i--)
        {
            if (parts[i] != ".")
            {
                pending.Push(parts[i]);
            }
        }
    }
}
