using ImageMount.Interop;

namespace ImageMount.Fuse.Mount;

/// <summary>A place that has been found fit to be mounted on.</summary>
/// <param name="Path">Absolute, symlinks resolved.</param>
/// <param name="RootMode">File type of the root inode: S_IFDIR or S_IFREG.</param>
public sealed record MountPoint(string Path, uint RootMode)
{
    /// <summary>The mount shows a single file in the place of an existing one.</summary>
    public bool IsFile => RootMode == FuseMode.S_IFREG;

    /// <summary>Looks at <paramref name="path"/> before anything is done.</summary>
    /// <param name="path">An existing directory, empty unless <paramref name="allowNonEmpty"/>, or an existing regular
    /// file.</param>
    /// <param name="allowNonEmpty">Cover what is in the directory.</param>
    /// <exception cref="FuseMountException">Says what is wrong and what to do.</exception>
    public static MountPoint Check(string path, bool allowNonEmpty = false)
    {
        string full = ResolvePath(path);
        int result = Stat.TryGet(full, out StatInfo info);
        switch (-result)
        {
            case 0:
                break;
            case Errno.ENOENT:
                throw new FuseMountException(
                    FuseMountFailure.MountPointMissing, full,
                    $"The mount point {full} does not exist: create it (mkdir {full}), or an empty file to mount the "
                    + "disk on.");
            case Errno.ENOTCONN:
                throw new FuseMountException(
                    FuseMountFailure.MountPointDead, full,
                    $"A dead FUSE mount lies at {full} (its server has gone): unmount it (umount -l {full}).");
            case Errno.EACCES:
                throw new FuseMountException(
                    FuseMountFailure.MountPointForbidden, full, $"The mount point {full} may not be looked at: "
                    + Errno.Format(Errno.EACCES) + ".");
            default:
                throw new FuseMountException(
                    FuseMountFailure.Other, full, $"The mount point {full} cannot be used: {Errno.Format(result)}.");
        }
        if (info.IsRegular)
        {
            return new MountPoint(full, FuseMode.S_IFREG);
        }
        if (!info.IsDirectory)
        {
            throw new FuseMountException(
                FuseMountFailure.MountPointWrongType, full,
                $"The mount point {full} is neither a directory nor a regular file.");
        }
        if (!allowNonEmpty && !IsEmpty(full))
        {
            throw new FuseMountException(
                FuseMountFailure.MountPointNotEmpty, full,
                $"The mount point {full} is not empty: what it holds would be hidden. Use an empty directory.");
        }
        return new MountPoint(full, FuseMode.S_IFDIR);
    }

    /// <summary>The absolute path with symlinks resolved, as the mount table has it; works for a dead mount too, and
    /// for what does not exist.</summary>
    public static string ResolvePath(string path) => Resolve(System.IO.Path.GetFullPath(path));

    private static bool IsEmpty(string directory)
    {
        try
        {
            return !Directory.EnumerateFileSystemEntries(directory).Any();
        }
        catch (UnauthorizedAccessException)
        {
            return true; // whoever may not look cannot mount either, and is told so by the mount
        }
    }

    // realpath(3), but of a dead mount too: only the directories above the last component are resolved through stat.
    private static string Resolve(string full)
    {
        string current = "/";
        foreach (string part in full.Split('/', StringSplitOptions.RemoveEmptyEntries))
        {
            string next = System.IO.Path.Join(current, part);
            current = Follow(next) ?? next;
        }
        return current;
    }

    private static string? Follow(string path)
    {
        try
        {
            FileSystemInfo? target = new FileInfo(path).ResolveLinkTarget(returnFinalTarget: true);
            return target is null ? null : Resolve(target.FullName);
        }
        catch (IOException)
        {
            return null;
        }
        catch (UnauthorizedAccessException)
        {
            return null;
        }
    }
}
