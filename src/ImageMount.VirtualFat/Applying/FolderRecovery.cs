using ImageMount.Core.Block;
using ImageMount.VirtualFat.Journal;

namespace ImageMount.VirtualFat.Applying;

/// <summary>
/// What has to be done before a folder is looked at for writing: an applying that was cut off is finished when its log
/// counts, and thrown away when not. Either way the folder is then as some consistent moment of the disk left it.
/// Where something had to get another name than planned, the journal that goes on with the disk has to know of it: the
/// log stays until <see cref="Conclude"/>, so that the name is found again should this process die before.
/// </summary>
internal sealed class FolderRecovery
{
    private readonly List<ChangeRunner> _open = [];
    private readonly List<string> _notes = [];
    private readonly Action<string> _warn;

    private readonly HostTree _tree;

    private FolderRecovery(HostTree tree, Action<string> warn) => (_tree, _warn) = (tree, warn);

    /// <summary>Finishes or throws away what earlier processes left behind.</summary>
    /// <param name="changes">The folder; nobody else may be writing to it through us.</param>
    /// <param name="warn">Told what was done.</param>
    /// <returns>What is to be done with the journal that is gone on with.</returns>
    /// <exception cref="BlockException">It could not be done.</exception>
    public static FolderRecovery Run(HostChanges changes, Action<string> warn)
    {
        var recovery = new FolderRecovery(changes.Tree, warn);
        List<string> notes = recovery._notes;
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
                var runner = new ChangeRunner(changes, log, notes);
                runner.Run(isResumed: true);
                notes.Add($"'{changes.Tree.Name}': the rest of what an earlier process had begun to write was done");
                if (runner.Redirects.Count > 0 && HasJournal(log))
                {
                    recovery._open.Add(runner);
                }
                else
                {
                    runner.CleanUp();
                }
            }
            else
            {
                staging.Abort(notes);
            }
        }

        recovery.Tell();
        return recovery;
    }

    /// <summary>The state of a journal with the names that things have got; the same where there are none.</summary>
    public FolderState Correct(FolderState state)
    {
        foreach (ChangeRunner runner in _open.Where(runner => runner.ApplyId == state.ApplyId))
        {
            state = Redirected.Apply(state, runner.Redirects);
        }

        return state;
    }

    /// <summary>The journal has the corrected state, or there is none any more: the rest can go.</summary>
    /// <param name="applyId">Id of the state; null when there is no journal.</param>
    public void Conclude(string? applyId)
    {
        foreach (ChangeRunner runner in _open.Where(runner => applyId is null || runner.ApplyId == applyId))
        {
            runner.CleanUp();
        }

        _tree.Forget();
        Tell();
    }

    private void Tell()
    {
        foreach (string note in _notes)
        {
            _warn(note);
        }

        _notes.Clear();
    }

    private static bool HasJournal(ChangeLog log) => log.JournalPath.Length > 0 && File.Exists(log.JournalPath);

    /// <summary>
    /// A log that names a journal was written before the journal came to know of it. Without the journal it counts:
    /// what it leads to is one consistent moment of the disk.
    /// </summary>
    private static bool Counts(ChangeLog log)
    {
        if (!HasJournal(log))
        {
            return true;
        }

        using var journal = JournalFile.Open(log.JournalPath);
        return journal.ApplyId == log.Id;
    }
}
