using ImageMount.Cli.Output;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Fuse.Mount;
using ImageMount.Interop;
using ImageMount.Mounting.Reports;
using ImageMount.VirtualFat;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Cli.Commands;

/// <summary>
/// `imgmount commit`: the folder behind a disk is brought up to date now. A running mount is asked by what every
/// program can do: fsync(2) of the disk files, so that the kernel holds nothing back, and of .imgmount/commit.json, which
/// applies it even where flushes of the disk are ignored (--cache unsafe). How it went stands in that file. A journal that
/// was kept is opened with its folder.
/// </summary>
internal static class CommitCommand
{
    private const int MaxReport = 16 << 20;

    public static async Task<int> RunAsync(CommitArguments arguments)
    {
        string word = Arguments.Required(arguments.Place, "MOUNTPOINT", "commit");
        Arguments.NoMore(arguments.Rest, "commit");
        string path = MountPoint.ResolvePath(word);
        return MountTable.Find(path) is { Type: "fuse.imgmount" }
            ? CommitMount(path)
            : FolderJournal.IsJournal(path)
                ? await CommitJournalAsync(path).ConfigureAwait(false)
                : throw new CommandException(
                    $"there is nothing to commit at {word}: it is neither a mount of ours nor a journal");
    }

    private static int CommitMount(string path)
    {
        if (!Directory.Exists(path))
        {
            Sync(path);
            Messages.Warn(
                $"{path} was written back; what came of it stands in the log of the mount. With --cache unsafe the folder "
                + "follows only when the disk is unmounted");
            return ExitCode.Done;
        }

        string report = Path.Join(path, ".imgmount", CommitJson.FileName);
        if (!File.Exists(report))
        {
            throw new CommandException(
                $"there is nothing to commit at {path}: it is not the disk of a folder (fat:rw:DIR)");
        }

        // Programs may have written through any of the files, and the kernel may hold it back in each.
        foreach (string file in Directory.GetFiles(path).Order(StringComparer.Ordinal))
        {
            Sync(file);
        }

        Sync(report);
        return Conclude(path, ReadReport(report));
    }

    private static void Sync(string path)
    {
        using SafeFileHandle? handle = SysOpen.TryOpen(path, SysOpen.O_RDONLY, out int errno);
        int result = handle is null ? -errno : SysFsync.Sync(handle);
        if (result != 0)
        {
            throw new CommandException($"{path} could not be written back: {Errno.Format(-result)}");
        }
    }

    private static CommitReport ReadReport(string path)
    {
        using FileStream stream = File.OpenRead(path);
        using var text = new MemoryStream();
        byte[] buffer = new byte[64 << 10];
        for (int count = stream.Read(buffer); count > 0 && text.Length < MaxReport; count = stream.Read(buffer))
        {
            text.Write(buffer, 0, count);
        }

        return CommitJson.Read(text.ToArray()) ?? throw new CommandException($"{path} cannot be understood");
    }

    private static async Task<int> CommitJournalAsync(string path)
    {
        var flags = new OpenFlags { Writable = true };
        Graph graph = await new GraphOpener(Drivers.Registry)
            .OpenAsync(FolderJournal.OptionsFor(path), flags).ConfigureAwait(false);
        CommitReport report;
        await using (graph.ConfigureAwait(false))
        {
            ICommittable device = graph.Nodes.Select(node => node.Device).OfType<ICommittable>().First();
            report = await device.CommitAsync(CancellationToken.None).ConfigureAwait(false);
            foreach (string note in report.Notes)
            {
                Messages.Warn(note);
            }

            // What could not be applied is said when the disk is closed, with where it is kept.
        }

        return ExitCode.Done;
    }

    private static int Conclude(string what, CommitReport report)
    {
        foreach (string note in report.Notes)
        {
            Messages.Warn(note);
        }

        return report.IsDone
            ? ExitCode.Done
            : throw new CommandException(
                $"what was written to {what} is not in its folder yet: {report.Reason}. It is kept in the journal "
                + $"'{report.Journal}'");
    }
}
