using ImageMount.VirtualFat.Applying;

namespace ImageMount.VirtualFat.Tests.Applying;

/// <summary>Somebody else works in the folder meanwhile: nothing of theirs is overwritten, and nothing of ours
/// lost.</summary>
public sealed class ConflictTests
{
    [SkippableFact]
    public void A_file_that_both_changed_is_there_twice()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        Replace(folder, "two.bin", 7000);
        File.WriteAllText(In(folder, "two.bin"), "the host's");
        ApplyReport report = folder.Apply();
        Assert.Equal("the host's", File.ReadAllText(In(folder, "two.bin")));
        Assert.Equal(ApplyTests.TestBytes(7000, 9), File.ReadAllBytes(In(folder, "two (imgmount conflict 1).bin")));
        Assert.Contains(report.Notes, note => note.Contains("conflict 1", StringComparison.Ordinal));

        // The disk's version is where it is; the next change goes there.
        Replace(folder, "two.bin", 100);
        Assert.Empty(folder.Apply().Notes);
        Assert.Equal("the host's", File.ReadAllText(In(folder, "two.bin")));
        Assert.Equal(100, new FileInfo(In(folder, "two (imgmount conflict 1).bin")).Length);
    }

    /// <summary>The guest only renames or touches what the host has changed: the host's change stays a change.</summary>
    [SkippableFact]
    public void A_file_changed_on_the_host_and_renamed_on_the_disk_is_not_overwritten_later()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        folder.Edit(image => Mtools.On(image, "mren", "::one.txt", "::uno.txt"));
        File.WriteAllText(In(folder, "one.txt"), "the host's");
        folder.Flush();
        Assert.Equal("the host's", File.ReadAllText(In(folder, "uno.txt")));

        Replace(folder, "uno.txt", 5000);
        ApplyReport report = folder.Apply();
        Assert.Equal("the host's", File.ReadAllText(In(folder, "uno.txt")));
        Assert.Equal(5000, new FileInfo(In(folder, "uno (imgmount conflict 1).txt")).Length);
        Assert.Contains(report.Notes, note => note.Contains("conflict 1", StringComparison.Ordinal));
    }

    /// <summary>The host's change shows neither in the size nor in the time of the file.</summary>
    [SkippableTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_change_that_leaves_size_and_time_as_they_were_is_noticed(bool afterApplying)
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        if (afterApplying)
        {
            // Our own renaming is no change of somebody else's.
            folder.Edit(image =>
            {
                Mtools.On(image, "mren", "::one.txt", "::t");
                Mtools.On(image, "mren", "::three.txt", "::tres");
            });
            Assert.Empty(folder.Apply().Notes);
            folder.Edit(image =>
            {
                Mtools.On(image, "mren", "::t", "::one.txt");
                Mtools.On(image, "mren", "::tres", "::three.txt");
            });
            Assert.Empty(folder.Apply().Notes);
        }

        foreach (string name in (string[])["one.txt", "three.txt"])
        {
            DateTime time = File.GetLastWriteTimeUtc(In(folder, name));
            byte[] other = File.ReadAllBytes(In(folder, name));
            other[0] ^= 1;
            File.WriteAllBytes(In(folder, name), other);
            File.SetLastWriteTimeUtc(In(folder, name), time);
        }

        string theirs = File.ReadAllText(In(folder, "one.txt"));
        Replace(folder, "one.txt", 2000);
        folder.Edit(image => Mtools.On(image, "mdel", "::three.txt"));
        ApplyReport report = folder.Apply();
        Assert.Equal(theirs, File.ReadAllText(In(folder, "one.txt")));
        Assert.Equal(2000, new FileInfo(In(folder, "one (imgmount conflict 1).txt")).Length);
        Assert.True(File.Exists(In(folder, "three.txt")));
        Assert.Equal(2, report.Notes.Count);
    }

    [SkippableFact]
    public void A_file_removed_on_the_disk_and_changed_on_the_host_stays()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        folder.Edit(image => Mtools.On(image, "mdeltree", "::one.txt", "::sub"));
        File.WriteAllText(In(folder, "one.txt"), "the host's");
        File.WriteAllText(In(folder, "sub/inner.txt"), "the host's too");
        ApplyReport report = folder.Apply();
        Assert.Equal("the host's", File.ReadAllText(In(folder, "one.txt")));
        Assert.Equal("the host's too", File.ReadAllText(In(folder, "sub/inner.txt")));
        Assert.Equal(3, report.Notes.Count);
    }

    [SkippableFact]
    public void A_name_that_the_host_took_meanwhile_is_left_alone()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        Replace(folder, "new.txt", 300);
        folder.Edit(image =>
        {
            Mtools.On(image, "mmd", "::made");
            Mtools.On(image, "mmove", "::one.txt", "::made");
            Mtools.On(image, "mren", "::three.txt", "::3.txt");
        });
        File.WriteAllText(In(folder, "new.txt"), "a");
        File.WriteAllText(In(folder, "made"), "b");
        File.WriteAllText(In(folder, "3.txt"), "c");
        ApplyReport report = folder.Apply();
        Assert.Equal("abc", File.ReadAllText(In(folder, "new.txt")) + File.ReadAllText(In(folder, "made"))
            + File.ReadAllText(In(folder, "3.txt")));
        Assert.Equal(300, new FileInfo(In(folder, "new (imgmount conflict 1).txt")).Length);
        Assert.Equal("one", File.ReadAllText(In(folder, "made (imgmount conflict 1)/one.txt")));
        Assert.Equal("three", File.ReadAllText(In(folder, "3 (imgmount conflict 1).txt")));
        Assert.Equal(3, report.Notes.Count);

        // And what is below goes on to be found.
        folder.Edit(image => Mtools.On(image, "mren", "::made/one.txt", "::made/uno"));
        folder.Apply();
        Assert.Equal("one", File.ReadAllText(In(folder, "made (imgmount conflict 1)/uno")));
    }

    [SkippableFact]
    public void A_file_that_vanished_does_not_come_back_and_a_changed_one_does()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        folder.Edit(image => Mtools.On(image, "mren", "::one.txt", "::1.txt"));
        Replace(folder, "three.txt", 4000);
        Replace(folder, "sub/inner.txt", 10);
        File.Delete(In(folder, "one.txt"));
        File.Delete(In(folder, "three.txt"));
        Directory.Delete(In(folder, "sub"), true);
        folder.Flush();
        Assert.False(File.Exists(In(folder, "1.txt")));
        Assert.Equal(4000, new FileInfo(In(folder, "three.txt")).Length);
        Assert.Equal(10, new FileInfo(In(folder, "sub/inner.txt")).Length);
        Assert.True(folder.Disk.Last.IsDone);
    }

    [SkippableFact]
    public void A_mixture_is_named_and_does_not_replace_anything()
    {
        using var folder = new WrittenFolder(directory => File.WriteAllBytes(
            Path.Join(directory, "log.txt"), ApplyTests.TestBytes(40_000, 4)));
        byte[] before = folder.ReadDisk();
        byte[] after = (byte[])before.Clone();
        int at = (int)new MemoryDisk(before).ReadVolume().Tree!.Geometry.OffsetOf(
            new MemoryDisk(before).ReadVolume().Tree!.Nodes[1].FirstCluster);
        after.AsSpan(at + 1024, 512).Fill(7);
        folder.Write(before, after);
        byte[] theirs = ApplyTests.TestBytes(40_000, 5);
        File.WriteAllBytes(In(folder, "log.txt"), theirs);
        ApplyReport report = folder.Flush();
        Assert.True(report.IsDone, report.Reason);
        Assert.Equal(theirs, File.ReadAllBytes(In(folder, "log.txt")));
        byte[] mixture = File.ReadAllBytes(In(folder, "log (imgmount conflict 1).txt"));
        Assert.Equal(Enumerable.Repeat((byte)7, 512), mixture.AsSpan(1024, 512).ToArray());
        Assert.Contains(report.Notes, note => note.Contains("were not written there", StringComparison.Ordinal));
    }

    [SkippableFact]
    public void A_link_in_the_place_of_a_folder_leads_nowhere()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        string outside = Directory.CreateDirectory(In(folder, "../outside")).FullName;
        Replace(folder, "sub/new.txt", 50);
        Directory.Move(In(folder, "sub"), In(folder, "elsewhere"));
        File.CreateSymbolicLink(In(folder, "sub"), outside);
        ApplyReport report = folder.Flush();
        Assert.True(report.IsDone, report.Reason);
        Assert.Empty(Directory.GetFileSystemEntries(outside));
        Assert.Equal(50, new FileInfo(In(folder, "sub (imgmount conflict 1)/new.txt")).Length);
    }

    [SkippableFact]
    public void A_folder_that_cannot_be_written_keeps_the_journal()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        Replace(folder, "one.txt", 2000);
        string before = folder.Describe();
        folder.Disk.Abandon();
        using var failing = new WrittenFolder(folder, call =>
        {
            if (call.StartsWith("renameat2", StringComparison.Ordinal)
                && call.Contains("new-", StringComparison.Ordinal))
            {
                throw new BlockException(BlockErrorKind.NoSpace, "no room");
            }
        }, saved: false);
        Replace(failing, "one.txt", 2000);
        ApplyReport report = failing.Flush();
        Assert.Equal(ApplyOutcome.Failed, report.Outcome);
        Assert.Contains("no room", report.Reason, StringComparison.Ordinal);
        Assert.Equal(before, string.Join('\n', failing.Describe().Split('\n').Where(line => !line.StartsWith('.'))));
        failing.Recover(withJournal: true);
        Assert.True(failing.Flush().IsDone);
        Assert.Equal(2000, new FileInfo(In(failing, "one.txt")).Length);
    }

    internal static void Replace(WrittenFolder folder, string name, int count)
    {
        string source = In(folder, "../source");
        File.WriteAllBytes(source, ApplyTests.TestBytes(count, 9));
        folder.Edit(image => Mtools.On(image, "mcopy", "-o", source, $"::{name}"));
    }

    private static string In(WrittenFolder folder, string name) => Path.Join(folder.Folder, name);
}
