using System.Buffers.Binary;
using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>A folder behind a disk that mtools writes to through the kernel.</summary>
public sealed class FolderWriteTests
{
    private const long PartitionStart = 1 << 20;

    [SkippableFact]
    public void What_mtools_writes_is_in_the_folder_after_commit_and_after_unmounting()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string folder = MakeFolder(box);
        MountedImage mount = box.Mount($"fat:rw:{folder}");
        string disk = $"{mount.Disk}@@{PartitionStart}";
        byte[] large = new byte[3_000_000];
        new Random(8).NextBytes(large);
        File.WriteAllBytes(box["large"], large);
        Mtool("mcopy", "-i", disk, box["large"], "::sub/large.bin");
        Mtool("mren", "-i", disk, "::hello.txt", "::good bye.txt");
        Tool.Run(Tool.Imgmount, "commit", mount.Point);
        Assert.Equal(large, File.ReadAllBytes(Path.Join(folder, "sub", "large.bin")));
        Assert.Equal("hello", File.ReadAllText(Path.Join(folder, "good bye.txt")));
        Assert.False(File.Exists(Path.Join(folder, "hello.txt")));

        Mtool("mdel", "-i", disk, "::good bye.txt");
        Mtool("mmd", "-i", disk, "::made");
        Mtool("mmove", "-i", disk, "::sub/large.bin", "::made");
        Assert.Contains("clean", Fsck(mount), StringComparison.Ordinal);
        mount.Unmount();
        Assert.Equal(
            ["made", "made/large.bin", "sub", "sub/inner.txt"],
            Directory.GetFileSystemEntries(folder, "*", SearchOption.AllDirectories)
                .Select(path => Path.GetRelativePath(folder, path)).Order(StringComparer.Ordinal));
        Assert.Equal(large, File.ReadAllBytes(Path.Join(folder, "made", "large.bin")));
    }

    [SkippableFact]
    public void An_inconsistent_disk_is_kept_repaired_and_committed()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string folder = MakeFolder(box);
        string source = $"driver=vvfat,dir={folder},rw=on,journal-dir={box["journals"]}";
        MountedImage mount = box.Mount(source, "--image-opts");
        WriteAndLoseACluster(box, mount);
        ToolResult commit = Tool.Try(Tool.Imgmount, "commit", mount.Point);
        string journal = Directory.GetFiles(box["journals"]).Single();
        Assert.Equal(1, commit.ExitCode);
        Assert.Contains(journal, commit.ToString(), StringComparison.Ordinal);
        ToolResult umount = mount.TryUnmount();
        Assert.Equal(1, umount.ExitCode);
        Assert.Contains(journal, umount.ToString(), StringComparison.Ordinal);
        Assert.Contains("was not changed", umount.ToString(), StringComparison.Ordinal);
        Assert.Equal("hello", File.ReadAllText(Path.Join(folder, "hello.txt")));

        // Not passed over, not applied as it is, but repaired.
        Assert.Equal(1, box.TryMount(source, "--image-opts").ExitCode);
        Assert.Equal(1, Tool.Try(Tool.Imgmount, "commit", journal).ExitCode);
        MountedImage again = box.Mount($"{source},journal={journal}", "--image-opts");
        Tool.Try("fsck.fat", "-a", again["p1"]);
        again.Unmount();
        Assert.Equal("new", File.ReadAllText(Path.Join(folder, "hello.txt")));
        Assert.Empty(Directory.GetFiles(box["journals"]));
    }

    [SkippableFact]
    public void What_was_synced_before_a_crash_is_in_the_journal()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string folder = MakeFolder(box);
        string source = $"driver=vvfat,dir={folder},rw=on,journal-dir={box["journals"]}";
        MountedImage mount = box.Mount(source, "--image-opts");
        WriteAndLoseACluster(box, mount);
        Tool.Try(Tool.Imgmount, "commit", mount.Point);
        Processes.KillIfOurs(mount.ProcessId);
        Tool.Try("umount", "-l", mount.Point);
        string journal = Directory.GetFiles(box["journals"]).Single();
        MountedImage again = box.Mount($"{source},journal={journal}", "--image-opts");
        Assert.Equal("new", Mtool("mtype", "-i", $"{again.Disk}@@{PartitionStart}", "::hello.txt").Trim());
        SetFat(again, 0);
        again.Unmount();
        Assert.Equal("new", File.ReadAllText(Path.Join(folder, "hello.txt")));
    }

    [SkippableFact]
    public void A_folder_is_written_by_one_at_a_time_and_not_without_being_asked()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string folder = MakeFolder(box);
        MountedImage mount = box.Mount($"fat:rw:{folder}");
        ToolResult second = box.TryMount($"fat:rw:{folder}");
        Assert.Equal(1, second.ExitCode);
        Assert.Contains("open for writing already", second.ToString(), StringComparison.Ordinal);
        mount.Unmount();
        MountedImage readOnly = box.Mount($"fat:{folder}");
        Assert.Equal(1, Tool.Try(Tool.Imgmount, "commit", readOnly.Point).ExitCode);
        readOnly.Unmount();
    }

    /// <summary>What the kernel holds back of any of the files, and a mount that ignores flushes.</summary>
    [SkippableTheory]
    [InlineData("writeback")]
    [InlineData("unsafe")]
    public void Commit_takes_in_what_was_written_through_p1_whatever_the_cache(string cache)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string folder = MakeFolder(box);
        string hello = Path.Join(folder, "hello.txt");
        MountedImage mount = box.Mount($"fat:rw:{folder}", "--cache", cache);
        byte[] start = new byte[4 << 20];
        using (SafeFileHandle p1 = File.OpenHandle(mount["p1"], FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite))
        {
            int count = RandomAccess.Read(p1, start, 0);
            int at = start.AsSpan(0, count).IndexOf("hello\0"u8);
            Assert.True(at > 0);
            Write(p1, at, "HELLO"u8);
            Assert.Equal(0, Seek.Sync(p1));
            Assert.Equal(cache == "unsafe" ? "hello" : "HELLO", File.ReadAllText(hello));
            Write(p1, at, "Hallo"u8);
            Tool.Run(Tool.Imgmount, "commit", mount.Point);
            Assert.Equal("Hallo", File.ReadAllText(hello));
            Write(p1, at, "Salut"u8);
        }

        mount.Unmount();
        Assert.Equal("Salut", File.ReadAllText(hello));

        // A whole page, aligned, as O_DIRECT files want it too.
        void Write(SafeFileHandle file, int at, ReadOnlySpan<byte> text)
        {
            text.CopyTo(start.AsSpan(at));
            int page = at / 4096 * 4096;
            RandomAccess.Write(file, start.AsSpan(page, 4096), page);
        }
    }

    [SkippableFact]
    public void A_conflict_is_told_by_commit_also_when_a_flush_was_faster()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string folder = MakeFolder(box);
        MountedImage mount = box.Mount($"fat:rw:{folder}");
        File.WriteAllText(box["new"], "new");
        Mtool("mcopy", "-o", "-i", $"{mount.Disk}@@{PartitionStart}", box["new"], "::hello.txt");
        File.WriteAllText(Path.Join(folder, "hello.txt"), "theirs");
        ToolResult commit = Tool.Try(Tool.Imgmount, "commit", mount.Point);
        Assert.Equal(0, commit.ExitCode);
        Assert.Contains("hello (imgmount conflict 1).txt", commit.ToString(), StringComparison.Ordinal);
        mount.Unmount();
        Assert.Equal("theirs", File.ReadAllText(Path.Join(folder, "hello.txt")));
        Assert.Equal("new", File.ReadAllText(Path.Join(folder, "hello (imgmount conflict 1).txt")));
    }

    private static string MakeFolder(MountBox box)
    {
        Skip.If(Tool.Try("mtools", "--version").ExitCode != 0, "mtools is not installed");
        string folder = box["folder"];
        Directory.CreateDirectory(Path.Join(folder, "sub"));
        File.WriteAllText(Path.Join(folder, "hello.txt"), "hello");
        File.WriteAllText(Path.Join(folder, "sub", "inner.txt"), "inner");
        return folder;
    }

    private static void WriteAndLoseACluster(MountBox box, MountedImage mount)
    {
        File.WriteAllText(box["new"], "new");
        Mtool("mcopy", "-o", "-i", $"{mount.Disk}@@{PartitionStart}", box["new"], "::hello.txt");
        SetFat(mount, 0xffff);
    }

    /// <summary>Sets the entry of a cluster that no file has, in both FATs (FAT16).</summary>
    private static void SetFat(MountedImage mount, ushort value)
    {
        const int Cluster = 5000;
        using SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite);
        byte[] sector = new byte[512];
        RandomAccess.Read(file, sector, PartitionStart);
        int reserved = BinaryPrimitives.ReadUInt16LittleEndian(sector.AsSpan(14));
        int size = BinaryPrimitives.ReadUInt16LittleEndian(sector.AsSpan(22));
        byte[] entry = new byte[2];
        BinaryPrimitives.WriteUInt16LittleEndian(entry, value);
        for (int copy = 0; copy < 2; copy++)
        {
            RandomAccess.Write(file, entry, PartitionStart + (reserved + copy * size) * 512 + Cluster * 2);
        }
    }

    private static string Mtool(string tool, params string[] arguments) =>
        Tool.Run("env", ["MTOOLS_SKIP_CHECK=1", tool, .. arguments]);

    private static string Fsck(MountedImage mount)
    {
        ToolResult result = Tool.Try("fsck.fat", "-n", mount["p1"]);
        return result.ExitCode == 0 ? "clean" : result.ToString();
    }
}
