using ImageMount.VirtualFat.Applying;

namespace ImageMount.VirtualFat.Tests.Applying;

/// <summary>
/// File systems that lack what applying likes best: names that change places, renaming that replaces nothing, second names.
/// The process dies at every third call there too, and nothing is ever lost.
/// </summary>
public sealed class LesserHostTests
{
    [SkippableTheory]
    [InlineData(HostLack.Exchange)]
    [InlineData(HostLack.Exchange | HostLack.NoReplace)]
    [InlineData(HostLack.Exchange | HostLack.NoReplace | HostLack.Links)]
    internal void Dying_at_calls(HostLack lack)
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        byte[] before = folder.ReadDisk();
        string oldFolder = folder.Describe();
        ApplyCrashTests.Change(folder);
        byte[] after = folder.ReadDisk();
        int calls = 0;
        string newFolder;
        using (var whole = new WrittenFolder(folder, _ => calls++, saved: false, lack))
        {
            whole.Write(before, after);
            whole.Apply();
            newFolder = whole.Describe();
        }

        folder.Apply();
        Assert.Equal(folder.Describe(), newFolder);
        Assert.True(calls > 70, $"only {calls} calls");
        using var origin = new WrittenFolder(ApplyTests.Fill);
        for (int i = (int)lack % 3; i < calls; i += 3)
        {
            int left = i;
            using var dying = new WrittenFolder(
                origin, call => ApplyCrashTests.Die(ref left, call), saved: i % 2 == 0, lack);
            dying.Write(before, after);
            Assert.Throws<ApplyCrashTests.DiedException>(() => dying.Flush());
            dying.Disk.Abandon();
            bool isDone = false;
            for (int again = 3; !isDone; again += 5)
            {
                left = again;
                isDone = dying.TryRecover(call => ApplyCrashTests.Die(ref left, call));
            }

            string recovered = dying.Describe();
            Assert.True(recovered == newFolder || recovered == oldFolder, $"call {i}: the folder is\n{recovered}");
        }
    }

    [SkippableTheory]
    [InlineData(HostLack.Exchange)]
    [InlineData(HostLack.Exchange | HostLack.NoReplace)]
    [InlineData(HostLack.Exchange | HostLack.NoReplace | HostLack.Links)]
    internal void What_takes_a_name_in_the_last_moment_is_not_replaced(HostLack lack)
    {
        using var origin = new WrittenFolder(ApplyTests.Fill);
        byte[] before = origin.ReadDisk();
        ConflictTests.Replace(origin, "new.txt", 300);
        origin.Edit(image =>
        {
            Mtools.On(image, "mren", "::one.txt", "::uno.txt");
            Mtools.On(image, "mren", "::tree", "::baum");
        });
        string root = "";
        using var folder = new WrittenFolder(origin, call =>
        {
            // At the very moment before the name is given, after every look at it.
            string[] words = call.Split(' ');
            if (words[0] is "linkat" or "renameat2" or "openat" && words[^1] is "new.txt" or "uno.txt" or "baum")
            {
                string path = Path.Join(root, words[^1]);
                if (!Path.Exists(path))
                {
                    File.WriteAllText(path, "theirs");
                }
            }
        }, saved: false, lack);
        root = folder.Folder;
        folder.Write(before, origin.ReadDisk());
        ApplyReport report = folder.Flush();
        Assert.True(report.IsDone, report.Reason);
        foreach (string name in (string[])["new.txt", "uno.txt", "baum"])
        {
            Assert.Equal("theirs", File.ReadAllText(Path.Join(root, name)));
        }

        Assert.Equal(300, new FileInfo(Path.Join(root, "new (imgmount conflict 1).txt")).Length);
        Assert.Equal("one", File.ReadAllText(Path.Join(root, "uno (imgmount conflict 1).txt")));
        Assert.Equal("l", File.ReadAllText(Path.Join(root, "baum (imgmount conflict 1)/leaf/l.txt")));
    }
}
