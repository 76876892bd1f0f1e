using ImageMount.Core.Block;
using ImageMount.VirtualFat.Journal;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// What has to be done before a folder is looked at for writing: an applying that was cut off is finished when its log
/// counts, and thrown away when not. Either way the folder is then as some consistent moment of the disk left it.
/// </summary>
internal static class FolderRecovery
{
    /// <summary>Finishes or throws away what earlier processes left behind.</summary>
    /// <param name="changes">The folder; nobody else may be writing to it through us.</param>
    /// <param name="warn">Told what was done.</param>
    /// <exception cref="BlockException">It could not be done.</exception>
    public static void Run(HostChanges changes, Action<string> warn)
    {
        var notes = new List<string>();
        foreach (string id in StagingFolder.Find(changes.Tree))
        {
            StagingFolder staging = StagingFolder.Existing(changes, id);
            ChangeLog? log = staging.ReadLog();
            if (log is null)
            {
                staging.Discard(notes);
            }
            else if (Counts(log))
            {
                new ChangeRunner(changes, log, notes).Run(isResumed: true);
                notes.Add($"'{changes.Tree.Name}': the rest of what an earlier process had begun to write was done");
            }
            else
            {
                staging.Abort(notes);
            }
        }

        foreach (string note in notes)
        {
            warn(note);
        }
    }

    /// <summary>True when an earlier process left something behind.</summary>
    public static bool IsNeeded(HostTree tree) => StagingFolder.Find(tree).Count > 0;

    /// <summary>
    /// A log that names a journal was written before the journal came to know of it. Without the journal it counts:
    /// what it leads to is one consistent moment of the disk.
    /// </summary>
    private static bool Counts(ChangeLog log)
    {
        if (log.JournalPath.Length == 0 || !File.Exists(log.JournalPath))
        {
            return true;
        }

        using var journal = JournalFile.Open(log.JournalPath);
        return journal.ApplyId == log.Id;
    }
}
