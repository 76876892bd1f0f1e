using ImageMount.Interop;
using ImageMount.VirtualFat.Applying;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Tests.Applying;

/// <summary>What mtools does to the disk happens in the folder.</summary>
public sealed class ApplyTests
{
    private static readonly byte[] Large = TestBytes(70_000, 1);

    [SkippableFact]
    public void Nothing_written_is_nothing_to_do()
    {
        using var folder = new WrittenFolder(Fill);
        Assert.Equal(ApplyOutcome.Unchanged, folder.Flush().Outcome);
        string before = folder.Describe();
        folder.Edit(image => Mtools.On(image, "mattrib", "+a", "::one.txt"));
        Assert.Equal(ApplyOutcome.Unchanged, folder.Apply().Outcome);
        Assert.Equal(before, folder.Describe());
    }

    [SkippableFact]
    public void New_files_and_folders_appear()
    {
        using var folder = new WrittenFolder(Fill);
        string source = Path.Join(folder.Folder, "..", "Größe 大 long name.bin");
        File.WriteAllBytes(source, Large);
        File.SetLastWriteTimeUtc(source, new DateTime(2001, 2, 3, 4, 5, 6, DateTimeKind.Utc));
        folder.Edit(image =>
        {
            Mtools.On(image, "mmd", "::new", "::new/deeper");
            Mtools.On(image, "mcopy", "-m", source, "::new/deeper/");
            Mtools.On(image, "mcopy", "-m", source, "::empty");
            Mtools.On(image, "mcopy", "-o", "/dev/null", "::nothing");
        });
        Assert.Equal(ApplyOutcome.Applied, folder.Apply().Outcome);
        string copy = Path.Join(folder.Folder, "new", "deeper", "Größe 大 long name.bin");
        Assert.Equal(Large, File.ReadAllBytes(copy));
        Assert.Equal(File.GetLastWriteTimeUtc(source), File.GetLastWriteTimeUtc(copy));
        Assert.Empty(File.ReadAllBytes(Path.Join(folder.Folder, "nothing")));
    }

    [SkippableFact]
    public void A_renamed_or_moved_file_stays_the_same_file_of_the_host()
    {
        using var folder = new WrittenFolder(Fill);
        string mode = Mtools.Run("stat", "-c", "%i %a %Y", Path.Join(folder.Folder, "one.txt"));
        string inner = Mtools.Run("stat", "-c", "%i %a %Y", Path.Join(folder.Folder, "sub", "inner.txt"));
        folder.Edit(image =>
        {
            Mtools.On(image, "mren", "::one.txt", "::First of all.txt");
            Mtools.On(image, "mmove", "::sub/inner.txt", "::outer.txt");
        });
        folder.Apply();
        Assert.Equal(mode, Mtools.Run("stat", "-c", "%i %a %Y", Path.Join(folder.Folder, "First of all.txt")));
        Assert.Equal(inner, Mtools.Run("stat", "-c", "%i %a %Y", Path.Join(folder.Folder, "outer.txt")));
        Assert.False(File.Exists(Path.Join(folder.Folder, "one.txt")));
        Assert.True(Directory.Exists(Path.Join(folder.Folder, "sub")));
    }

    [SkippableFact]
    public void A_changed_file_keeps_mode_and_attributes()
    {
        bool hasAttributes = false;
        using var folder = new WrittenFolder(directory =>
        {
            Fill(directory);
            using SafeFileHandle file = SysOpen.TryOpen(Path.Join(directory, "two.bin"), SysOpen.O_RDWR, out _)!;
            hasAttributes = SysSetXattr.Set(file, "user.note", "kept"u8) == 0;
        });
        Skip.IfNot(hasAttributes, "no extended attributes here");
        string path = Path.Join(folder.Folder, "two.bin");
        string source = Path.Join(folder.Folder, "..", "two.bin");
        File.WriteAllBytes(source, Large);
        folder.Edit(image => Mtools.On(image, "mcopy", "-o", "-m", source, "::two.bin"));
        folder.Apply();
        Assert.Equal(Large, File.ReadAllBytes(path));
        Assert.Equal("604", Mode(path));
        using SafeFileHandle changed = SysOpen.TryOpen(path, SysOpen.O_RDONLY, out _)!;
        Assert.Equal(0, SysGetXattr.TryGet(changed, "user.note", out byte[] value));
        Assert.Equal("kept"u8.ToArray(), value);
    }

    [SkippableFact]
    public void The_read_only_attribute_follows()
    {
        using var folder = new WrittenFolder(Fill);
        string path = Path.Join(folder.Folder, "one.txt");
        folder.Edit(image => Mtools.On(image, "mattrib", "+r", "::one.txt"));
        folder.Apply();
        Assert.Equal("444", Mode(path));
        folder.Edit(image => Mtools.On(image, "mattrib", "-r", "::one.txt"));
        folder.Apply();
        Assert.Equal("644", Mode(path));
    }

    [SkippableFact]
    public void Time_of_a_changed_file_follows_and_rights_of_its_old_content_do_not()
    {
        const UnixFileMode Plain = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute
            | UnixFileMode.OtherRead;
        using var folder = new WrittenFolder(directory =>
        {
            Fill(directory);
            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(
                    Path.Join(directory, "one.txt"), Plain | UnixFileMode.SetUser | UnixFileMode.SetGroup);
            }
        });
        string path = Path.Join(folder.Folder, "one.txt");
        folder.Edit(image =>
        {
            string source = image + ".source";
            File.WriteAllText(source, "the guest's");
            File.SetLastWriteTime(source, new DateTime(2001, 2, 3, 4, 5, 6, DateTimeKind.Local));
            Mtools.On(image, "mcopy", "-o", "-m", source, "::one.txt");
            File.Delete(source);
        });
        folder.Apply();
        Assert.Equal("the guest's", File.ReadAllText(path));
        Assert.Equal(new DateTime(2001, 2, 3, 4, 5, 6, DateTimeKind.Local), File.GetLastWriteTime(path));
        if (!OperatingSystem.IsWindows())
        {
            Assert.Equal(Plain, File.GetUnixFileMode(path));
        }
    }

    [SkippableFact]
    public void Removed_files_and_folders_go_and_the_rest_of_a_folder_stays()
    {
        using var folder = new WrittenFolder(Fill);
        File.WriteAllText(Path.Join(folder.Folder, "sub", "not on the disk"), "x");
        folder.Edit(image => Mtools.On(image, "mdeltree", "::sub", "::one.txt", "::tree"));
        ApplyReport report = folder.Apply();
        Assert.False(File.Exists(Path.Join(folder.Folder, "one.txt")));
        Assert.False(Directory.Exists(Path.Join(folder.Folder, "tree")));
        Assert.Equal("not on the disk", Path.GetFileName(Directory.GetFiles(Path.Join(folder.Folder, "sub")).Single()));
        Assert.Contains(report.Notes, note => note.Contains("stays", StringComparison.Ordinal));
    }

    [SkippableFact]
    public void Names_change_places_in_rings()
    {
        using var folder = new WrittenFolder(Fill);
        folder.Edit(image =>
        {
            Mtools.On(image, "mren", "::one.txt", "::t");
            Mtools.On(image, "mren", "::two.bin", "::one.txt");
            Mtools.On(image, "mren", "::three.txt", "::two.bin");
            Mtools.On(image, "mren", "::t", "::three.txt");
            Mtools.On(image, "mmove", "::tree/leaf", "::leaf");
            Mtools.On(image, "mmove", "::tree", "::leaf");
            Mtools.On(image, "mren", "::leaf", "::t");
            Mtools.On(image, "mmove", "::t", "::sub");
        });
        string before = WrittenFolder.Describe(folder.Folder);
        folder.Apply();
        Assert.Equal("one", File.ReadAllText(Path.Join(folder.Folder, "three.txt")));
        Assert.Equal("three", File.ReadAllText(Path.Join(folder.Folder, "two.bin")));
        Assert.Equal(5000, new FileInfo(Path.Join(folder.Folder, "one.txt")).Length);
        Assert.Equal("l", File.ReadAllText(Path.Join(folder.Folder, "sub", "t", "l.txt")));
        Assert.True(Directory.Exists(Path.Join(folder.Folder, "sub", "t", "tree")));
        Assert.NotEqual(before, folder.Describe());
    }

    [SkippableFact]
    public void Applying_goes_on_from_where_it_was()
    {
        using var folder = new WrittenFolder(Fill);
        string source = Path.Join(folder.Folder, "..", "s");
        for (int i = 0; i < 4; i++)
        {
            byte[] bytes = TestBytes(3000 + 9000 * i, i);
            File.WriteAllBytes(source, bytes);
            string last = i == 0 ? "two.bin" : $"file{i - 1}";
            folder.Edit(image =>
            {
                Mtools.On(image, "mcopy", "-o", source, $"::{last}");
                Mtools.On(image, "mren", $"::{last}", $"::file{i}");
            });
            folder.Apply();
            Assert.Equal(bytes, File.ReadAllBytes(Path.Join(folder.Folder, $"file{i}")));
            Assert.False(File.Exists(Path.Join(folder.Folder, last)));
        }

        Assert.Empty(folder.Warnings);
    }

    [SkippableFact]
    public void At_the_end_the_journal_is_gone()
    {
        using var folder = new WrittenFolder(Fill);
        string source = Path.Join(folder.Folder, "..", "s");
        File.WriteAllBytes(source, TestBytes(400_000, 3));
        folder.Edit(image => Mtools.On(image, "mcopy", source, "::large"));
        Assert.True(File.Exists(folder.JournalFile), "64 KiB of memory should not have been enough");
        folder.Disk.CloseAsync().AsTask().GetAwaiter().GetResult();
        Assert.False(File.Exists(folder.JournalFile));
        Assert.Equal(TestBytes(400_000, 3), File.ReadAllBytes(Path.Join(folder.Folder, "large")));
    }

    internal static void Fill(string folder)
    {
        File.WriteAllText(Path.Join(folder, "one.txt"), "one");
        File.WriteAllBytes(Path.Join(folder, "two.bin"), TestBytes(5000, 2));
        File.WriteAllText(Path.Join(folder, "three.txt"), "three");
        Directory.CreateDirectory(Path.Join(folder, "sub"));
        File.WriteAllText(Path.Join(folder, "sub", "inner.txt"), "inner");
        Directory.CreateDirectory(Path.Join(folder, "tree", "leaf"));
        File.WriteAllText(Path.Join(folder, "tree", "leaf", "l.txt"), "l");
        Mtools.Run("chmod", "604", Path.Join(folder, "two.bin"));
        Mtools.Run("chmod", "644", Path.Join(folder, "one.txt"));
    }

    internal static byte[] TestBytes(int count, int seed)
    {
        byte[] bytes = new byte[count];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    private static string Mode(string path) => Mtools.Run("stat", "-c", "%a", path).Trim();
}
