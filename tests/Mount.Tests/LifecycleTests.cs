using System.Diagnostics;
using System.Globalization;
using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>How a mount begins and ends.</summary>
public sealed class LifecycleTests
{
    private const int Length = 8 * 1024 * 1024;

    [SkippableTheory]
    [InlineData(Processes.SigTerm)]
    [InlineData(Processes.SigInt)]
    public void A_signal_ends_the_mount_with_everything_written(int signal)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        byte[] expected = DiskContent.Make(seed: 31, Length);
        MountedImage mount = box.Mount(image);
        File.WriteAllBytes(mount.Disk, expected);

        Processes.Signal(mount.ProcessId, signal);
        Processes.WaitUntilEnded(mount.ProcessId);

        Assert.False(MountBox.IsMounted(mount.Point));
        DiskContent.AssertEqual(expected, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
        DiskContent.AssertCheckClean(image);
    }

    [SkippableTheory]
    [InlineData(Processes.SigTerm)]
    [InlineData(Processes.SigInt)]
    public void In_the_foreground_a_signal_ends_the_program_with_success(int signal)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        string point = Directory.CreateDirectory(box["point"]).FullName;
        string pidFile = box["pid"];
        using Process process = Tool.Start(
            "sh", "-c", $"'{Tool.Imgmount}' mount '{image}' '{point}' --foreground --pidfile '{pidFile}' 2>'{box["log"]}'; echo $? >'{box["code"]}'");
        WaitForFile(pidFile, process);
        int pid = int.Parse(File.ReadAllText(pidFile), CultureInfo.InvariantCulture);
        Assert.True(File.Exists(Path.Combine(point, "disk.raw")), File.ReadAllText(box["log"]));

        Processes.Signal(pid, signal);
        Assert.True(process.WaitForExit(TimeSpan.FromSeconds(60)), "did not end after the signal");
        Assert.Equal("0", File.ReadAllText(box["code"]).Trim());
        Assert.False(MountBox.IsMounted(point));
        Assert.False(File.Exists(pidFile), "the pid file stays behind");
    }

    [SkippableFact]
    public void Unmounting_a_busy_mount_names_the_holder_and_keeps_the_mount_working()
    {
        Needs.Mounting();
        using var box = new MountBox();
        MountedImage mount = box.Mount(Images.MakeEmpty(box, Length));
        using (SafeFileHandle held = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            ToolResult result = mount.TryUnmount();

            Assert.Equal(1, result.ExitCode);
            Assert.Contains(
                Environment.ProcessId.ToString(CultureInfo.InvariantCulture), result.Error, StringComparison.Ordinal);
            Assert.True(MountBox.IsMounted(mount.Point));
            RandomAccess.Write(held, "still here"u8, 4096);
            Assert.Equal(0, Seek.Sync(held));
        }

        mount.Unmount();
    }

    [SkippableFact]
    public void Unmounting_a_mount_that_a_loop_device_uses_names_what_is_mounted_from_it()
    {
        Needs.Mounting("mkfs.ext4", "mount");
        Needs.LoopDevices();
        using var box = new MountBox();
        MountedImage mount = box.Mount(Images.MakeEmpty(box, Length));
        Tool.Run("mkfs.ext4", "-q", "-F", mount.Disk);
        string guest = Directory.CreateDirectory(box["guest"]).FullName;
        Tool.Run("mount", "-o", "loop", mount.Disk, guest);

        ToolResult result = mount.TryUnmount();
        Tool.Run("umount", guest);

        Assert.Equal(1, result.ExitCode);
        Assert.Contains("loop", result.Error, StringComparison.Ordinal);
        mount.Unmount();
    }

    [SkippableTheory]
    [InlineData("writeback")]
    [InlineData("none")]
    [InlineData("unsafe")]
    public void When_umount_returns_the_image_can_be_opened_for_writing_by_another_program(string cacheMode)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, 64 * 1024 * 1024);
        for (int round = 0; round < 3; round++)
        {
            MountedImage mount = box.Mount(image, "--cache", cacheMode);
            byte[] data = new byte[32 * 1024 * 1024];
            new Random(round).NextBytes(data);
            using (SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.Write))
            {
                RandomAccess.Write(file, data, 0);
            }

            Assert.Equal(0, mount.TryUnmount().ExitCode);
            // At once: the lock must be free and all of it there.
            Tool.Run("qemu-io", "-f", "qcow2", "-c", $"write -q -P {round + 1} {40 + round}M 64k", image);
            DiskContent.AssertEqual(
                data, DiskContent.ReadByPeer(image, box["peer.bin"]).AsSpan(0, data.Length), $"round {round}");
        }

        DiskContent.AssertCheckClean(image);
    }

    [SkippableFact]
    public void Umount_of_something_that_is_not_a_mount_of_ours_is_refused()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string folder = Directory.CreateDirectory(box["plain"]).FullName;

        Assert.Equal(1, Tool.Try(Tool.Imgmount, "umount", folder).ExitCode);
        Assert.Equal(1, Tool.Try(Tool.Imgmount, "umount", "/proc").ExitCode);
        Assert.True(MountBox.IsMounted("/proc"));
        Assert.Equal(1, Tool.Try(Tool.Imgmount, "umount", box["missing"]).ExitCode);
    }

    [SkippableFact]
    public void A_plain_umount_ends_the_background_process_with_everything_written()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        byte[] expected = DiskContent.Make(seed: 33, Length);
        MountedImage mount = box.Mount(image);
        File.WriteAllBytes(mount.Disk, expected);

        Tool.Run("umount", mount.Point);
        Processes.WaitUntilEnded(mount.ProcessId);

        DiskContent.AssertEqual(expected, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
    }

    [SkippableFact]
    public void Active_mounts_are_listed_and_ended_ones_are_not()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, Length);
        MountedImage mount = box.Mount(image);

        string listed = Tool.Run(Tool.Imgmount, "list", "--json");
        Assert.Contains(mount.Point, listed, StringComparison.Ordinal);
        Assert.Contains(image, listed, StringComparison.Ordinal);
        mount.Unmount();
        Assert.DoesNotContain(mount.Point, Tool.Run(Tool.Imgmount, "list", "--json"), StringComparison.Ordinal);
    }

    /// <summary>Waits, by a notice of the file system, until a file is there and complete.</summary>
    private static void WaitForFile(string path, Process writer)
    {
        using var changed = new AutoResetEvent(false);
        using var watcher = new FileSystemWatcher(Path.GetDirectoryName(path)!, Path.GetFileName(path));
        watcher.Created += (_, _) => changed.Set();
        watcher.Changed += (_, _) => changed.Set();
        watcher.Renamed += (_, _) => changed.Set();
        watcher.EnableRaisingEvents = true;
        var limit = Stopwatch.StartNew();
        while (!File.Exists(path) || File.ReadAllText(path).Length == 0)
        {
            Assert.False(writer.HasExited, "ended before the mount was ready");
            Assert.True(limit.Elapsed < TimeSpan.FromSeconds(60), "the mount did not get ready");
            changed.WaitOne(TimeSpan.FromSeconds(1));
        }
    }
}
