using ImageMount.VirtualFat.Applying;

namespace ImageMount.VirtualFat.Tests.Applying;

/// <summary>
/// The process dies before, and after, every call that changes the folder. Each file has its old or its new contents
/// then; whoever looks next makes the folder all new, or all old with the journal to go on from.
/// </summary>
public sealed class ApplyCrashTests
{
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void Dying_at_any_call(bool saved)
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        byte[] before = folder.ReadDisk();
        string oldFolder = folder.Describe();
        Change(folder);
        byte[] after = folder.ReadDisk();

        // How the folder should be in the end, and how often it can be interrupted.
        int calls = 0;
        string newFolder;
        using (var whole = new WrittenFolder(folder, _ => calls++, saved: false))
        {
            string untouched = whole.Describe();
            Assert.Equal(oldFolder, untouched);
            whole.Write(before, after);
            whole.Apply();
            newFolder = whole.Describe();
        }

        CheckNew(newFolder, folder.Folder, after);
        Assert.True(calls > 60, $"only {calls} calls");
        Dictionary<string, string> old = Lines(oldFolder);
        Dictionary<string, string> updated = Lines(newFolder);
        int applied = 0;
        for (int i = 0; i < calls; i++)
        {
            int left = i;
            using var dying = new WrittenFolder(
                folder, call => Die(ref left, call), saved);
            dying.Write(before, after);
            if (saved)
            {
                dying.Disk.Journal.Save(null, "", isApplied: false);
            }

            Assert.Throws<DiedException>(() => dying.Flush());
            CheckHalf(dying, old, updated, i);
            dying.Recover(withJournal: saved);
            string recovered = dying.Describe();
            applied += recovered == newFolder ? 1 : 0;
            Assert.True(recovered == newFolder || recovered == oldFolder, $"call {i}: the folder is\n{recovered}");
            if (saved)
            {
                dying.Apply();
                Assert.Equal(newFolder, dying.Describe());
                Assert.True(dying.ReadDisk().AsSpan(0, 20_000).SequenceEqual(after.AsSpan(0, 20_000)));
            }

            Assert.DoesNotContain("conflict", dying.Describe(), StringComparison.Ordinal);
        }

        Assert.True(applied > 20, $"applied after {applied} of {calls}");
    }

    [SkippableFact]
    public void Dying_again_while_it_is_finished()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        byte[] before = folder.ReadDisk();
        Change(folder);
        byte[] after = folder.ReadDisk();
        folder.Apply();
        string newFolder = folder.Describe();
        using var origin = new WrittenFolder(ApplyTests.Fill);
        for (int seed = 0; seed < 25; seed++)
        {
            var random = new Random(seed);
            int left = 45 + random.Next(30);
            using var dying = new WrittenFolder(origin, call => Die(ref left, call), saved: false);
            dying.Write(before, after);
            try
            {
                dying.Flush();
            }
            catch (DiedException)
            {
                bool isDone = false;
                while (!isDone)
                {
                    left = random.Next(12);
                    isDone = dying.TryRecover(call => Die(ref left, call));
                }
            }

            dying.Recover(withJournal: false);
            string recovered = dying.Describe();
            Assert.True(
                recovered == newFolder || recovered == origin.Describe(), $"seed {seed}: the folder is\n{recovered}");
        }
    }

    internal static void Change(WrittenFolder folder)
    {
        ConflictTests.Replace(folder, "two.bin", 6000);
        ConflictTests.Replace(folder, "sub/inner.txt", 700);
        ConflictTests.Replace(folder, "new.txt", 800);
        folder.Edit(image =>
        {
            // one.txt <-> three.txt, a file over another, a folder in the place of a file, a folder into its own
            // child.
            Mtools.On(image, "mren", "::one.txt", "::t");
            Mtools.On(image, "mren", "::three.txt", "::one.txt");
            Mtools.On(image, "mren", "::t", "::three.txt");
            Mtools.On(image, "mdel", "::two.bin");
            Mtools.On(image, "mren", "::new.txt", "::two.bin");
            Mtools.On(image, "mmove", "::tree/leaf", "::leaf");
            Mtools.On(image, "mmove", "::tree", "::leaf");
            Mtools.On(image, "mmd", "::tree");
            Mtools.On(image, "mattrib", "+r", "::three.txt");
        });
    }

    private static void CheckNew(string described, string folder, byte[] disk)
    {
        // The folder is what mtools takes out of the disk.
        string image = Path.Join(folder, "..", "check.raw");
        string target = Directory.CreateDirectory(Path.Join(folder, "..", "check")).FullName;
        File.WriteAllBytes(image, disk);
        Mtools.On(image, "mcopy", "-s", "-n", "::*", target);
        Assert.Equal(WrittenFolder.Describe(target), described);
    }

    private static void CheckHalf(
        WrittenFolder folder, Dictionary<string, string> old, Dictionary<string, string> updated, int call)
    {
        IEnumerable<string> lines = folder.Describe().Split('\n')
            .Where(line => !line.StartsWith(".imgmount-", StringComparison.Ordinal));
        Dictionary<string, string> now = Lines(string.Join('\n', lines));
        var known = new HashSet<string>(old.Values.Concat(updated.Values));
        foreach ((string name, string content) in now)
        {
            Assert.True(known.Contains(content), $"call {call}: '{name}' has contents that no file ever had");
        }

        foreach (string name in old.Keys.Where(name => updated.ContainsKey(name) && !name.EndsWith('/')))
        {
            Assert.True(
                now.TryGetValue(name, out string? content) && (content == old[name] || content == updated[name]),
                $"call {call}: '{name}' has neither its old nor its new contents");
        }
    }

    private static Dictionary<string, string> Lines(string described) => described.Split('\n')
        .Where(line => line.Length > 0)
        .ToDictionary(line => line.Split(": ")[0], line => line.Contains(": ") ? line.Split(": ")[1] : "");

    internal static void Die(ref int left, string call)
    {
        if (left-- == 0)
        {
            throw new DiedException(call);
        }
    }

    internal sealed class DiedException(string call) : Exception(call);
}
