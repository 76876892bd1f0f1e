using System.Security.Cryptography;
using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>--read-only, --snapshot, --growable, and mounting on a file.</summary>
public sealed class ModeTests
{
    private const int Length = 4 * 1024 * 1024;

    [SkippableTheory]
    [InlineData("qcow2")]
    [InlineData("raw")]
    [InlineData("vmdk sparse")]
    public void A_read_only_mount_refuses_writing_and_leaves_the_file_as_it_was(string kind)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.Make(box, kind, DiskContent.Make(seed: 41, Length));
        byte[] before = SHA256.HashData(File.ReadAllBytes(image));
        DateTime modified = File.GetLastWriteTimeUtc(image);
        MountedImage mount = box.Mount(image, "--read-only");

        Exception refused = Assert.ThrowsAny<Exception>(
            () => File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite).Dispose());
        Assert.True(refused is IOException or UnauthorizedAccessException, refused.ToString());
        Assert.NotEqual(0, Tool.Try("truncate", "-s", "1M", mount.Disk).ExitCode);
        Assert.NotEqual(0, Tool.Try("rm", "-f", mount.Disk).ExitCode);
        _ = File.ReadAllBytes(mount.Disk);
        mount.Unmount();

        Assert.Equal(before, SHA256.HashData(File.ReadAllBytes(image)));
        Assert.Equal(modified, File.GetLastWriteTimeUtc(image));
    }

    [SkippableFact]
    public void An_image_that_may_only_be_read_can_be_mounted_read_only()
    {
        Needs.Mounting();
        using var box = new MountBox();
        byte[] content = DiskContent.Make(seed: 42, Length);
        string image = Images.Make(box, "qcow2", content);
        string readOnlyFolder = Directory.CreateDirectory(box["ro"]).FullName;
        Tool.Run("mount", "--bind", box.Folder, readOnlyFolder);
        try
        {
            Tool.Run("mount", "-o", "remount,bind,ro", readOnlyFolder);
            string there = Path.Combine(readOnlyFolder, Path.GetFileName(image));
            ToolResult writable = box.TryMount(there);
            Assert.True(writable.ExitCode == 1, $"a file system that is read-only was mounted for writing: {writable}");
            Assert.Contains("read-only", writable.Error, StringComparison.OrdinalIgnoreCase);
            MountedImage mount = box.Mount(there, "--read-only");
            DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "the disk");
            mount.Unmount();
        }
        finally
        {
            Tool.Run("umount", readOnlyFolder);
        }
    }

    [SkippableTheory]
    [InlineData("qcow2")]
    [InlineData("vmdk stream")]
    [InlineData("raw")]
    public void With_snapshot_writes_are_seen_and_the_image_stays_untouched(string kind)
    {
        Needs.Mounting();
        using var box = new MountBox();
        byte[] expected = DiskContent.Make(seed: 43, Length);
        string image = Images.Make(box, kind, expected);
        byte[] before = SHA256.HashData(File.ReadAllBytes(image));
        MountedImage mount = box.Mount(image, "--snapshot");

        using (SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            var random = new Random(44);
            for (int i = 0; i < 60; i++)
            {
                int offset = random.Next(0, Length - 100_000);
                int length = random.Next(1, 100_000);
                random.NextBytes(expected.AsSpan(offset, length));
                RandomAccess.Write(file, expected.AsSpan(offset, length), offset);
            }

            Assert.Equal(0, Seek.Sync(file));
        }

        DiskContent.AssertEqual(expected, File.ReadAllBytes(mount.Disk), "the mount");
        mount.Unmount();
        Assert.Equal(before, SHA256.HashData(File.ReadAllBytes(image)));
    }

    [SkippableFact]
    public void A_growable_disk_grows_with_writes_and_truncate_and_another_does_not()
    {
        Needs.Mounting();
        using var box = new MountBox();
        byte[] content = DiskContent.Make(seed: 45, Length);
        string image = Images.Make(box, "qcow2", content);
        MountedImage mount = box.Mount(image, "--growable");
        byte[] tail = new byte[100_000];
        new Random(46).NextBytes(tail);
        using (SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            RandomAccess.Write(file, tail, Length + (1024 * 1024));
        }

        Tool.Run("truncate", "-s", "16M", mount.Disk);
        Assert.Equal(16 * 1024 * 1024, new FileInfo(mount.Disk).Length);
        mount.Unmount();

        byte[] after = DiskContent.ReadByPeer(image, box["peer.bin"]);
        Assert.Equal(16 * 1024 * 1024, after.Length);
        DiskContent.AssertEqual(content, after.AsSpan(0, Length), "the old part");
        DiskContent.AssertEqual(tail, after.AsSpan(Length + (1024 * 1024), tail.Length), "the new part");
        Assert.False(after.AsSpan(Length, 1024 * 1024).ContainsAnyExcept((byte)0), "the gap is not zero");
        DiskContent.AssertCheckClean(image);

        MountedImage fixedSize = box.Mount(image);
        using (SafeFileHandle file = File.OpenHandle(fixedSize.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            Assert.ThrowsAny<IOException>(() =>
            {
                RandomAccess.Write(file, tail, 17 * 1024 * 1024);
                if (Seek.Sync(file) != 0)
                {
                    throw new IOException("refused at fsync");
                }
            });
        }

        Assert.NotEqual(0, Tool.Try("truncate", "-s", "17M", fixedSize.Disk).ExitCode);
        // With delayed writes the kernel takes a write past the end for growth until it hears better; umount may tell.
        fixedSize.TryUnmount();
        Assert.Equal(after, DiskContent.ReadByPeer(image, box["peer.bin"]));
    }

    [SkippableFact]
    public void Mounted_on_a_file_the_disk_takes_the_place_of_the_file()
    {
        Needs.Mounting();
        using var box = new MountBox();
        byte[] content = DiskContent.Make(seed: 47, Length);
        string image = Images.Make(box, "qcow2", content);
        string point = box["here"];
        File.WriteAllText(point, "what was here before");

        MountedImage mount = box.MountAt(image, point);
        DiskContent.AssertEqual(content, File.ReadAllBytes(point), "the file");
        using (SafeFileHandle file = File.OpenHandle(point, FileMode.Open, FileAccess.ReadWrite))
        {
            RandomAccess.Write(file, "written in place of the file"u8, 70_000);
        }

        mount.Unmount();
        Assert.Equal("what was here before", File.ReadAllText(point));
        Assert.Equal(
            "written in place of the file"u8,
            DiskContent.ReadByPeer(image, box["peer.bin"]).AsSpan(70_000, 28));
    }

    [SkippableFact]
    public void An_image_mounted_on_its_own_path_becomes_the_raw_disk_there()
    {
        Needs.Mounting();
        using var box = new MountBox();
        byte[] content = DiskContent.Make(seed: 48, Length);
        string image = Images.Make(box, "qcow2", content);

        MountedImage mount = box.MountAt(image, image);
        DiskContent.AssertEqual(content, File.ReadAllBytes(image), "the disk in place of the image");
        mount.Unmount();

        DiskContent.AssertCheckClean(image);
        DiskContent.AssertEqual(content, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image afterwards");
    }
}
