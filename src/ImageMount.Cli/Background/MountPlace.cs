using ImageMount.Fuse.Mount;
using ImageMount.Interop;

namespace ImageMount.Cli.Background;

/// <summary>The mount point: made fit before the mount, put back as it was after.</summary>
public sealed class MountPlace
{
    private readonly bool _wasCreated;

    private MountPlace(string path, bool wasCreated)
    {
        Path = path;
        _wasCreated = wasCreated;
    }

    /// <summary>Absolute, symlinks resolved.</summary>
    public string Path { get; }

    /// <summary>
    /// Detaches a dead mount that a crash left there, refuses a living one, creates the directory when only its last
    /// part is missing.
    /// </summary>
    /// <exception cref="CommandException">It cannot be made fit.</exception>
    public static MountPlace Prepare(string path, StateDirectory states, Action<string> note)
    {
        string full = MountPoint.ResolvePath(path);
        if (MountTable.TryDetachDead(full))
        {
            note($"a dead mount at {full}, left by a process that died, was cleaned up");
            foreach (MountState dead in states.ReadAll())
            {
                if (dead.MountPoint == full && !ServerProcess.IsRunning(dead))
                {
                    states.Remove(dead.Pid);
                }
            }
        }

        if (MountTable.Find(full) is { Type: "fuse.imgmount" } mounted)
        {
            throw new CommandException(
                $"cannot mount on {full}: {mounted.Source} is mounted there. First: imgmount umount {full}");
        }

        if (Stat.TryGet(full, out _) != -Errno.ENOENT)
        {
            return new MountPlace(full, wasCreated: false);
        }

        try
        {
            // One level only: a path with a mistake in its middle is to be an error, not a tree.
            if (!Directory.Exists(System.IO.Path.GetDirectoryName(full)))
            {
                throw new CommandException(
                    $"cannot mount on {full}: neither it nor the directory it would be in exists. "
                    + $"Create it (mkdir -p {full})");
            }

            Directory.CreateDirectory(full);
            return new MountPlace(full, wasCreated: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CommandException($"cannot create the mount point {full}: {e.Message}", e);
        }
    }

    /// <summary>Removes the directory if it was created here and nothing has been put into it.</summary>
    public void Restore()
    {
        if (!_wasCreated)
        {
            return;
        }

        try
        {
            Directory.Delete(Path, recursive: false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // In use or not empty: then it stays.
        }
    }
}
