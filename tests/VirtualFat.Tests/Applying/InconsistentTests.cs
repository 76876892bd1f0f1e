using ImageMount.VirtualFat.Applying;
using ImageMount.VirtualFat.Journal;

namespace ImageMount.VirtualFat.Tests.Applying;

/// <summary>A disk in the middle of something: the folder stays as it is, and the journal is kept.</summary>
public sealed class InconsistentTests
{
    [SkippableFact]
    public void A_lost_cluster_keeps_the_journal_and_the_repaired_disk_is_applied()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        string before = folder.Describe();
        ConflictTests.Replace(folder, "new.bin", 9000);
        byte[] good = folder.ReadDisk();
        byte[] bad = (byte[])good.Clone();
        bad[512 + 3 * 1000 / 2] = 0xff; // an entry of the first FAT, far behind all files
        folder.Write(good, bad);
        ApplyReport report = folder.Flush();
        Assert.Equal(ApplyOutcome.Inconsistent, report.Outcome);
        var error = Assert.Throws<BlockException>(() => folder.Disk.CloseAsync().AsTask().GetAwaiter().GetResult());
        Assert.Contains(folder.JournalFile, error.Message, StringComparison.Ordinal);
        Assert.Equal(before, folder.Describe());

        folder.Recover(withJournal: true);
        Assert.True(folder.ReadDisk().AsSpan().SequenceEqual(bad));
        folder.Write(bad, good);
        folder.Apply();
        Assert.Equal(9000, new FileInfo(Path.Join(folder.Folder, "new.bin")).Length);
        folder.Disk.CloseAsync().AsTask().GetAwaiter().GetResult();
        Assert.False(File.Exists(folder.JournalFile));
    }

    [SkippableFact]
    public void A_journal_goes_on_after_parts_were_applied()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        ConflictTests.Replace(folder, "first.bin", 3000);
        folder.Edit(image => Mtools.On(image, "mren", "::one.txt", "::uno.txt"));
        folder.Apply();
        ConflictTests.Replace(folder, "second.bin", 4000);
        byte[] good = folder.ReadDisk();
        byte[] bad = (byte[])good.Clone();
        bad[512 + 3 * 1000 / 2] = 0xff;
        folder.Write(good, bad);
        Assert.Equal(ApplyOutcome.Inconsistent, folder.Flush().Outcome);
        folder.Recover(withJournal: true);
        Assert.True(folder.ReadDisk().AsSpan().SequenceEqual(bad), "the disk is not what it was");
        folder.Write(bad, good);
        Assert.Empty(folder.Apply().Notes);
        Assert.Equal(4000, new FileInfo(Path.Join(folder.Folder, "second.bin")).Length);
        Assert.Equal("one", File.ReadAllText(Path.Join(folder.Folder, "uno.txt")));
    }

    [SkippableFact]
    public void A_disk_that_was_formatted_anew_removes_nothing()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        string before = folder.Describe();
        folder.Edit(image => Mtools.Run("mkfs.fat", "-i", "99999999", image));
        ApplyReport report = folder.Flush();
        Assert.Equal(ApplyOutcome.Inconsistent, report.Outcome);
        Assert.Contains("formatted anew", report.Reason, StringComparison.Ordinal);
        Assert.Equal(before, folder.Describe());
    }

    [SkippableFact]
    public void A_guest_cannot_make_names_of_ours()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        folder.Edit(image => Mtools.On(image, "mmd", "::.imgmount-0123456789abcdef"));
        ApplyReport report = folder.Flush();
        Assert.Equal(ApplyOutcome.Inconsistent, report.Outcome);
        Assert.Contains(".imgmount-", report.Reason, StringComparison.Ordinal);
    }

    [SkippableFact]
    public void A_damaged_journal_is_refused()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        ConflictTests.Replace(folder, "new.bin", 9000);
        folder.Disk.Journal.Save([1, 2, 3], "", isApplied: false);
        folder.Disk.Abandon();
        byte[] bytes = File.ReadAllBytes(folder.JournalFile);
        var random = new Random(5);
        for (int i = 0; i < 300; i++)
        {
            byte[] damaged = (byte[])bytes.Clone();
            int at = i % 2 == 0 ? random.Next(8192) : random.Next(damaged.Length);
            damaged[at] ^= (byte)(1 << random.Next(8));
            string path = $"{folder.JournalFile}.{i}";
            File.WriteAllBytes(path, i % 10 == 9 ? damaged[..at] : damaged);
            try
            {
                using JournalFile file = JournalFile.Open(path);
                using JournalBlocks journal = JournalBlocks.Load(1 << 20, file);
            }
            catch (BlockException e)
            {
                Assert.Contains(path, e.Describe(), StringComparison.Ordinal);
            }
        }
    }
}
