using ImageMount.VirtualFat.Applying;

namespace ImageMount.VirtualFat.Tests.Applying;

/// <summary>
/// Names that somebody took while the disk was written, and a process that dies meanwhile: the journal goes on with the
/// files of the disk where they are now, and the host's are nobody's but the host's.
/// </summary>
public sealed class RedirectTests
{
    [SkippableFact]
    public void Dying_while_names_are_taken()
    {
        using var origin = new WrittenFolder(ApplyTests.Fill);
        byte[] before = origin.ReadDisk();
        ConflictTests.Replace(origin, "new.txt", 300);
        origin.Edit(image =>
        {
            Mtools.On(image, "mmd", "::made");
            Mtools.On(image, "mmove", "::one.txt", "::made");
            Mtools.On(image, "mren", "::three.txt", "::3.txt");
        });
        byte[] after = origin.ReadDisk();
        int calls = 0;
        int commit = 0;
        int flushed;
        int counts;
        using (var whole = new WrittenFolder(origin, call => calls += Count(call, ref commit, calls), saved: true))
        {
            Prepare(whole, before, after);
            Assert.True(whole.Flush().IsDone);
            flushed = calls;
            counts = commit;
            Check(whole, after, goesOn: true);
        }

        // From just before the list counts.
        int redirected = 0;
        for (int i = counts - 6; i < flushed; i += 2)
        {
            int left = i;
            using var dying = new WrittenFolder(
                origin, call => ApplyCrashTests.Die(ref left, call), saved: true);
            Prepare(dying, before, after);
            Assert.Throws<ApplyCrashTests.DiedException>(() => dying.Flush());
            dying.Recover(withJournal: true);
            redirected += dying.Warnings.Exists(told => told.Contains("the rest of what", StringComparison.Ordinal)) ? 1 : 0;
            ApplyReport report = dying.Flush();
            Assert.True(report.IsDone, $"call {i}: {report.Reason}");
            Check(dying, after, goesOn: i % 4 == 0);
        }

        Assert.True(redirected > 10, $"finished {redirected} times");
    }

    private static int Count(string call, ref int commit, int calls)
    {
        commit = call.StartsWith("rename", StringComparison.Ordinal) && call.EndsWith("/log, done", StringComparison.Ordinal)
            ? calls : commit;
        return 1;
    }

    private static void Prepare(WrittenFolder folder, byte[] before, byte[] after)
    {
        folder.Write(before, after);
        folder.Disk.Journal.Save(null, "", isApplied: false);
        File.WriteAllText(In(folder, "new.txt"), "a");
        File.WriteAllText(In(folder, "made"), "b");
        File.WriteAllText(In(folder, "3.txt"), "c");
    }

    private static void Check(WrittenFolder folder, byte[] after, bool goesOn)
    {
        Assert.Equal("abc", File.ReadAllText(In(folder, "new.txt")) + File.ReadAllText(In(folder, "made"))
            + File.ReadAllText(In(folder, "3.txt")));
        Assert.Equal(300, new FileInfo(In(folder, "new (imgmount conflict 1).txt")).Length);
        Assert.Equal("one", File.ReadAllText(In(folder, "made (imgmount conflict 1)/one.txt")));
        Assert.Equal("three", File.ReadAllText(In(folder, "3 (imgmount conflict 1).txt")));
        Assert.Empty(Directory.GetFileSystemEntries(folder.Folder, "*conflict 2*"));

        // The disk is what it was, files that were only renamed included, and goes on with the right files.
        Assert.True(folder.ReadDisk().AsSpan().SequenceEqual(after), "the disk shows other files");
        if (!goesOn)
        {
            return;
        }

        ConflictTests.Replace(folder, "new.txt", 40);
        folder.Edit(image => Mtools.On(image, "mren", "::made/one.txt", "::made/uno"));
        Assert.Empty(folder.Apply().Notes);
        Assert.Equal(40, new FileInfo(In(folder, "new (imgmount conflict 1).txt")).Length);
        Assert.Equal("one", File.ReadAllText(In(folder, "made (imgmount conflict 1)/uno")));
        Assert.Equal("a", File.ReadAllText(In(folder, "new.txt")));
    }

    private static string In(WrittenFolder folder, string name) => Path.Join(folder.Folder, name);
}
