using ImageMount.Cli.Background;
using ImageMount.Cli.Output;
using ImageMount.Fuse.Mount;
using ImageMount.Interop;

namespace ImageMount.Cli.Commands;

/// <summary>
/// `imgmount umount`: unmounts and waits until the serving process has flushed, closed and unlocked the image, and says
/// how that went. Unmounting comes first (the kernel writes back through the mount), then waiting for the process, then
/// its note: gone means closed properly, a failure in it is the reason, and a note left as it was means a crash.
/// </summary>
internal static class UmountCommand
{
    private const int PatienceMs = 2000;
    private const int ForcePatienceMs = 10_000;

    public static Task<int> RunAsync(UmountArguments arguments)
    {
        string word = Arguments.Required(arguments.MountPoint, "MOUNTPOINT", "umount");
        Arguments.NoMore(arguments.Rest, "umount");
        return Task.FromResult(Run(word, arguments, StateDirectory.Default));
    }

    private static int Run(string word, UmountArguments arguments, StateDirectory states)
    {
        string path = MountPoint.ResolvePath(word);
        IReadOnlyList<MountState> notes = states.ReadAll();
        MountEntry? entry = MountTable.Find(path);
        if (entry?.Type != "fuse.imgmount" && notes.LastOrDefault(n => n.SourcePath == path) is { } bySource)
        {
            path = bySource.MountPoint;
            entry = MountTable.Find(path);
        }

        MountState? note = notes.LastOrDefault(n => n.MountPoint == path);
        if (entry is null)
        {
            return note is null
                ? throw new CommandException(NothingThere(word, notes))
                : Conclude(note, states, arguments.Force);
        }

        if (entry.Type != "fuse.imgmount")
        {
            throw new CommandException(
                $"cannot unmount {path}: it is a mount of type {entry.Type}, not ours. Use umount(8)");
        }

        if (MountTable.IsDeadMount(path))
        {
            MountTable.TryDetachDead(path);
            return ConcludeDead(path, note, states);
        }

        if (arguments.Force)
        {
            CutOff(path, note);
        }
        else
        {
            Unmount(path, arguments.Lazy);
        }

        if (arguments.Lazy)
        {
            return ExitCode.Done;
        }

        if (note is null)
        {
            Messages.Warn(
                $"{path} is unmounted, but nothing is known of the process that serves it; "
                + "it may still be closing the image");
            return ExitCode.Done;
        }

        return Conclude(note, states, arguments.Force);
    }

    private static void Unmount(string path, bool lazy)
    {
        try
        {
            FuseUnmount.Unmount(path, lazy);
        }
        catch (FuseMountException e) when (e.Failure == FuseMountFailure.Busy)
        {
            IReadOnlyList<MountHolder> holders = MountHolders.Find(path);
            string who = holders.Count == 0
                ? " (by whom could not be found out; try as root)"
                : ":" + string.Concat(holders.Take(20).Select(h => "\n  " + Holders.Describe(h)));
            throw new CommandException(
                $"cannot unmount {path}: it is in use{who}\n"
                + "End that first; or --lazy (detach, finish later), or --force (cut it off)", e);
        }
        catch (FuseMountException e)
        {
            throw new CommandException(e.Message, e);
        }
    }

    /// <summary>
    /// Asks the serving process to end: it writes back what it can, cuts off who uses the mount, and closes the image.
    /// Without such a process the connection is cut from here.
    /// </summary>
    private static void CutOff(string path, MountState? note)
    {
        int result = note is not null && ServerProcess.IsRunning(note) ? SysKill.Terminate(note.Pid) : -Errno.ESRCH;
        if (result == -Errno.EPERM)
        {
            throw new CommandException(
                $"cannot cut off {path}: it is served by a process of another user (pid {note!.Pid})");
        }

        if (result < 0)
        {
            FuseUnmount.TryCutOff(path);
        }
    }

    private static int Conclude(MountState note, StateDirectory states, bool force)
    {
        ServerProcess.WaitForEnd(note, force ? ForcePatienceMs : PatienceMs, () =>
        {
            Console.Error.WriteLine(
                $"imgmount: waiting until {note.Source} is flushed and closed (pid {note.Pid})...");
            if (force)
            {
                // It does not get on by itself: whatever it waits for in the kernel is to fail.
                FuseUnmount.TryCutOff(note.MountPoint);
            }
        });
        MountState? last = states.Read(note.Pid);
        if (last is null)
        {
            return ExitCode.Done;
        }

        states.Remove(note.Pid);
        if (last.Failure is { } failure)
        {
            string log = File.Exists(last.LogFile) ? $" (log: {last.LogFile})" : "";
            throw new CommandException($"{note.MountPoint} is unmounted, but {failure}{log}");
        }

        return ConcludeDead(note.MountPoint, last, null);
    }

    private static int ConcludeDead(string path, MountState? note, StateDirectory? states)
    {
        if (note is not null)
        {
            states?.Remove(note.Pid);
        }

        if (note is { ReadOnly: true })
        {
            Messages.Warn($"the process that served {path} had died; the mount is cleaned up (it was read-only)");
            return ExitCode.Done;
        }

        string source = note is null ? "the image" : note.Source;
        throw new CommandException(
            $"{path} is cleaned up, but the process that served it had died: what was not synced to {source} is lost. "
            + $"Check it: imgmount check {note?.Source ?? "IMAGE"}");
    }

    private static string NothingThere(string word, IReadOnlyList<MountState> notes)
    {
        string[] mounted = [.. notes.Select(n => n.MountPoint).Take(10)];
        return mounted.Length == 0
            ? $"cannot unmount {word}: no image is mounted there (nor anywhere else)"
            : $"cannot unmount {word}: no image is mounted there. Mounted: {string.Join(", ", mounted)}";
    }
}
