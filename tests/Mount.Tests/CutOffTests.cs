using System.Globalization;
using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>Ending a mount that somebody uses, and writers that do not stop at the end of the disk.</summary>
public sealed class CutOffTests
{
    private const int Length = 8 * 1024 * 1024;

    [SkippableTheory]
    [InlineData("signal")]
    [InlineData("umount --force")]
    public void A_busy_mount_is_ended_with_everything_written_so_far(string how)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        byte[] expected = DiskContent.Make(seed: 71, Length);
        MountedImage mount = box.Mount(image);
        using SafeFileHandle held = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite);
        RandomAccess.Write(held, expected, 0); // and no fsync

        if (how == "signal")
        {
            Processes.Signal(mount.ProcessId, Processes.SigTerm);
            Processes.WaitUntilEnded(mount.ProcessId);
        }
        else
        {
            Tool.Run(Tool.Imgmount, "umount", "--force", mount.Point);
        }

        Assert.False(MountBox.IsMounted(mount.Point));
        Assert.True(FailsToWrite(held), "a file of a mount that is gone still takes data");
        DiskContent.AssertEqual(expected, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
        DiskContent.AssertCheckClean(image);
    }

    [SkippableFact]
    public void A_lazy_unmount_closes_the_image_when_the_last_user_lets_go()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        MountedImage mount = box.Mount(image);
        using (SafeFileHandle held = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            Tool.Run(Tool.Imgmount, "umount", "--lazy", mount.Point);
            Assert.False(MountBox.IsMounted(mount.Point));
            RandomAccess.Write(held, "written after it was detached"u8, 4096);
        }

        Processes.WaitUntilEnded(mount.ProcessId);
        byte[] disk = DiskContent.ReadByPeer(image, box["peer.bin"]);
        Assert.Equal("written after it was detached"u8.ToArray(), disk.AsSpan(4096, 29).ToArray());
    }

    [SkippableTheory]
    [InlineData("writeback", "dd if=/dev/zero of=DISK bs=1M")]
    [InlineData("writeback", "dd if=/dev/zero of=DISK bs=1M conv=notrunc")]
    [InlineData("writeback", "dd if=/dev/zero bs=1M 1<>DISK")] // opened for reading and writing: the page cache
    [InlineData("none", "dd if=/dev/zero of=DISK bs=1M")]
    [InlineData("writethrough", "dd if=/dev/zero bs=1M 1<>DISK")]
    public void A_writer_that_would_go_on_for_ever_is_stopped_at_the_end_of_the_disk(string cacheMode, string command)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        MountedImage mount = box.Mount(image, "--cache", cacheMode);

        ToolResult result = Tool.Try("sh", "-c", command.Replace("DISK", mount.Disk, StringComparison.Ordinal));
        mount.TryUnmount();

        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("No space left", result.Error, StringComparison.Ordinal);
        Assert.Equal(Length, DiskContent.ReadByPeer(image, box["peer.bin"]).Length);
        DiskContent.AssertCheckClean(image);
    }

    [SkippableFact]
    public void Overwriting_with_truncation_leaves_the_size_of_the_disk_alone()
    {
        Needs.Mounting();
        using var box = new MountBox();
        byte[] old = DiskContent.Make(seed: 72, Length);
        string image = Images.Make(box, "qcow2", old);
        MountedImage mount = box.Mount(image);
        byte[] start = DiskContent.Make(seed: 73, 100_000);
        File.WriteAllBytes(box["start"], start);

        Tool.Run("cp", box["start"], mount.Disk);
        Assert.Equal(Length, new FileInfo(mount.Disk).Length);
        Assert.NotEqual(
            0, Tool.Try("truncate", "-s", (Length / 2).ToString(CultureInfo.InvariantCulture), mount.Disk).ExitCode);
        mount.Unmount();

        start.CopyTo(old, 0);
        DiskContent.AssertEqual(old, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
    }

    /// <summary>The page cache may take a write for a moment; fsync finds out.</summary>
    private static bool FailsToWrite(SafeFileHandle file)
    {
        try
        {
            RandomAccess.Write(file, "too late"u8, 0);
            return Seek.Sync(file) != 0;
        }
        catch (IOException)
        {
            return true;
        }
    }
}
