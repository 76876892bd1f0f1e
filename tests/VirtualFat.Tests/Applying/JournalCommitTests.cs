using ImageMount.VirtualFat.Applying;

namespace ImageMount.VirtualFat.Tests.Applying;

/// <summary>
/// The journal's file is written while the folder follows: that may fail, and the process may die in the middle of it.
/// Folder and journal agree afterwards on whether the folder has followed.
/// </summary>
public sealed class JournalCommitTests
{
    [SkippableFact]
    public void Dying_at_any_call_of_the_journal() => Run((folder, after, newFolder, call) =>
    {
        bool hasDied = false;
        try
        {
            folder.Flush();
        }
        catch (ApplyCrashTests.DiedException)
        {
            hasDied = true;
        }

        folder.Recover(withJournal: true);
        Assert.True(
            folder.Describe() == newFolder || hasDied, $"call {call}: the folder is\n{folder.Describe()}");
        Assert.True(folder.ReadDisk().AsSpan().SequenceEqual(after), $"call {call}: the disk is another");
        folder.Apply();
        Assert.Equal(newFolder, folder.Describe());
        return hasDied;
    }, call => throw new ApplyCrashTests.DiedException(call));

    [SkippableFact]
    public void A_saving_that_fails_is_done_again() => Run((folder, after, newFolder, call) =>
    {
        string old = folder.Describe();
        bool hasFailed = false;
        try
        {
            hasFailed = !folder.Flush().IsDone;
        }
        catch (BlockException e)
        {
            Assert.Contains("no more room", e.Message, StringComparison.Ordinal);
            hasFailed = true;
        }

        // Not known to be kept is not done: the folder is as it was, but for what prepares the change.
        string now = string.Join('\n', folder.Describe().Split('\n').Where(line => !line.StartsWith(".imgmount-", StringComparison.Ordinal)));
        Assert.Equal(hasFailed ? old : newFolder, now);
        Assert.True(folder.ReadDisk().AsSpan().SequenceEqual(after), $"call {call}: the disk is another");
        folder.Apply();
        Assert.Equal(newFolder, folder.Describe());
        return hasFailed;
    }, _ => throw new BlockException(BlockErrorKind.NoSpace, "no more room"));

    /// <summary>Every call of the journal while the folder follows goes wrong once.</summary>
    private static void Run(Func<WrittenFolder, byte[], string, int, bool> check, Action<string> goWrong)
    {
        using var origin = new WrittenFolder(ApplyTests.Fill);
        byte[] before = origin.ReadDisk();
        ConflictTests.Replace(origin, "new.bin", 6000);
        origin.Edit(image => Mtools.On(image, "mren", "::one.txt", "::uno.txt"));
        byte[] after = origin.ReadDisk();
        string newFolder;
        using (var whole = new WrittenFolder(origin, null, saved: false))
        {
            whole.Write(before, after);
            whole.Apply();
            newFolder = whole.Describe();
        }

        int wrong = 0;
        bool goesOn = true;
        for (int i = 0; goesOn; i++)
        {
            int left = int.MaxValue;
            using var folder = new WrittenFolder(origin, null, saved: true, journalHook: call =>
            {
                if (left-- == 0)
                {
                    goWrong(call);
                }
            });
            folder.Write(before, after);
            folder.Disk.Journal.Save(null, "", isApplied: false);
            left = i;
            goesOn = check(folder, after, newFolder, i);
            wrong += goesOn ? 1 : 0;
        }

        // Index, state, sync, header, sync: before and after each.
        Assert.InRange(wrong, 10, 40);
    }
}
