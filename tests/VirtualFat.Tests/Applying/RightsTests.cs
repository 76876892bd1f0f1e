using ImageMount.VirtualFat.Applying;
using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Tests.Applying;

/// <summary>What may not be changed is found out before anything is, and the rest goes on when it may.</summary>
public sealed class RightsTests
{
    [SkippableTheory]
    [InlineData("sub", "mdel", "::sub/inner.txt")]
    [InlineData("sub", "mren", "::sub/inner.txt", "::sub/other.txt")]
    [InlineData("sub", "mmove", "::sub/inner.txt", "::")]
    [InlineData("sub", "mmove", "::one.txt", "::sub")]
    [InlineData("tree", "mmove", "::tree/leaf", "::sub")]
    [InlineData("tree/leaf", "mmove", "::tree/leaf", "::sub")]
    [InlineData("tree/leaf", "mdeltree", "::tree")]
    [InlineData("sub", "mmd", "::sub/new")]
    public void A_folder_that_may_not_change_holds_nothing_up_half_way(string marked, params string[] edit)
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        ConflictTests.Replace(folder, "two.bin", 7000);
        folder.Edit(image => Mtools.On(image, edit[0], edit[1..]));
        string before = folder.Describe();
        using (Immutable(Path.Join(folder.Folder, marked)))
        {
            for (int i = 0; i < 2; i++)
            {
                ApplyReport report = folder.Flush();
                Assert.Equal(ApplyOutcome.Failed, report.Outcome);
                Assert.Contains($"{Path.Join(folder.Folder, marked)}' may not be changed", report.Reason, StringComparison.Ordinal);
                Assert.Contains("EPERM", report.Reason, StringComparison.Ordinal);
                Assert.Equal(before, folder.Describe());
            }

            // The rest can go on: the disk with its changes is in the journal, and can be changed back.
            folder.Recover(withJournal: true);
            Assert.Equal(ApplyOutcome.Failed, folder.Flush().Outcome);
            Assert.Equal(before, folder.Describe());
        }

        folder.Apply();
        Assert.NotEqual(before, folder.Describe());
        Assert.Equal(7000, new FileInfo(Path.Join(folder.Folder, "two.bin")).Length);
    }

    [SkippableFact]
    public void A_file_that_nobody_may_change_holds_nothing_up_half_way()
    {
        IDisposable? mark = null;
        using var folder = new WrittenFolder(directory =>
        {
            ApplyTests.Fill(directory);
            mark = Immutable(Path.Join(directory, "sub/inner.txt"));
        });
        using (mark)
        {
            ConflictTests.Replace(folder, "two.bin", 7000);
            ConflictTests.Replace(folder, "sub/inner.txt", 100);
            string before = folder.Describe();
            ApplyReport report = folder.Flush();
            Assert.Equal(ApplyOutcome.Failed, report.Outcome);
            Assert.Contains("sub/inner.txt' may not be changed", report.Reason, StringComparison.Ordinal);
            Assert.Equal(before, folder.Describe());
        }
    }

    [SkippableFact]
    public void A_mount_in_the_folder_is_no_part_of_it()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        string sub = Path.Join(folder.Folder, "sub");
        Skip.If(Mtools.TryRun("mount", ["--bind", sub, sub], out string said) != 0, said);
        try
        {
            folder.Edit(image => Mtools.On(image, "mdel", "::sub/inner.txt"));
            ApplyReport report = folder.Flush();
            Assert.Equal(ApplyOutcome.Failed, report.Outcome);
            Assert.Contains("another file system, or mount", report.Reason, StringComparison.Ordinal);
            folder.Edit(image => Mtools.On(image, "mdeltree", "::sub"));
            Assert.Equal(ApplyOutcome.Failed, folder.Flush().Outcome);
            Assert.Equal("inner", File.ReadAllText(Path.Join(sub, "inner.txt")));
        }
        finally
        {
            Mtools.Run("umount", sub);
        }

        folder.Apply();
        Assert.False(Directory.Exists(sub));
    }

    [SkippableFact]
    public void Rights_that_go_in_the_last_moment_are_waited_for()
    {
        using var origin = new WrittenFolder(ApplyTests.Fill);
        byte[] before = origin.ReadDisk();
        ConflictTests.Replace(origin, "sub/inner.txt", 3000);
        origin.Edit(image => Mtools.On(image, "mren", "::one.txt", "::uno.txt"));
        bool refuses = true;
        using var folder = new WrittenFolder(origin, call =>
        {
            if (refuses && call.StartsWith("renameat2", StringComparison.Ordinal) && call.Contains("sub/", StringComparison.Ordinal))
            {
                throw new BlockException(BlockErrorKind.PermissionDenied, "not any more");
            }
        }, saved: false);
        folder.Write(before, origin.ReadDisk());
        Assert.Equal(ApplyOutcome.Failed, folder.Flush().Outcome);
        Assert.Equal("inner", File.ReadAllText(Path.Join(folder.Folder, "sub/inner.txt")));
        refuses = false;
        folder.Apply();
        Assert.Equal(3000, new FileInfo(Path.Join(folder.Folder, "sub/inner.txt")).Length);
        Assert.Equal("one", File.ReadAllText(Path.Join(folder.Folder, "uno.txt")));
    }

    /// <summary>mtools cannot say such a name, so the entries are written here.</summary>
    [SkippableFact]
    public void A_name_that_is_too_long_for_the_host_is_shortened_and_goes_on_being_the_file()
    {
        using var folder = new WrittenFolder(ApplyTests.Fill);
        ConflictTests.Replace(folder, "MADE.TXT", 900);
        byte[] before = folder.ReadDisk();
        var volume = new EditedVolume(before, new Random(1));
        volume.GiveLongName("MADE.TXT", string.Concat(Enumerable.Repeat("大", 200)) + ".txt");
        folder.Write(before, volume.Bytes);
        ApplyReport report = folder.Apply();
        Assert.Contains("604 bytes on the host", Assert.Single(report.Notes), StringComparison.Ordinal);
        string file = Directory.GetFiles(folder.Folder, "大*").Single();
        Assert.EndsWith("大 (imgmount conflict 1).txt", file, StringComparison.Ordinal);
        Assert.Equal(ApplyTests.TestBytes(900, 9), File.ReadAllBytes(file));

        byte[] after = (byte[])volume.Bytes.Clone();
        VolumeTree tree = new MemoryDisk(after).ReadVolume().Tree!;
        after[tree.Geometry.OffsetOf(tree.Nodes.Single(node => node.Name.StartsWith('大')).FirstCluster)] ^= 1;
        folder.Write(volume.Bytes, after);
        Assert.Empty(folder.Apply().Notes);
        byte[] content = ApplyTests.TestBytes(900, 9);
        content[0] ^= 1;
        Assert.Equal(content, File.ReadAllBytes(file));
        Assert.Equal(file, Directory.GetFiles(folder.Folder, "大*").Single());
        folder.Edit(image => Mtools.On(image, "mdel", "::MADE.TXT"));
        folder.Apply();
        Assert.Empty(Directory.GetFiles(folder.Folder, "大*"));
    }

    private static IDisposable Immutable(string path)
    {
        Skip.If(Mtools.TryRun("chattr", ["+i", path], out string said) != 0, said);
        return new Mark(path);
    }

    private sealed class Mark(string path) : IDisposable
    {
        public void Dispose() => Mtools.Run("chattr", "-i", path);
    }
}
