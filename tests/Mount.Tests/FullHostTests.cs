using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>The host's file system is full: the writer is told, and nothing is lost.</summary>
public sealed class FullHostTests
{
    private const int Mebibyte = 1024 * 1024;

    [SkippableTheory]
    [InlineData("none")]
    [InlineData("writeback")]
    [InlineData("writethrough")]
    public void A_full_host_disk_fails_the_write_and_keeps_what_was_there(string cacheMode)
    {
        Needs.Mounting("mount");
        using var box = new MountBox();
        string small = Directory.CreateDirectory(box["small"]).FullName;
        Tool.Run("mount", "-t", "tmpfs", "-o", "size=16m", "none", small);
        string image = Path.Combine(small, "disk.qcow2");
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", image, "64M");
        MountedImage mount = box.Mount(image, "--cache", cacheMode);
        byte[] piece = new byte[Mebibyte];
        var durable = new List<int>();
        bool refused = false;
        try
        {
            using SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite);
            for (int index = 0; index < 64 && !refused; index++)
            {
                Fill(piece, index);
                RandomAccess.Write(file, piece, (long)index * Mebibyte);
                if (Seek.Sync(file) == 0)
                {
                    durable.Add(index);
                }
                else
                {
                    refused = true;
                }
            }
        }
        catch (IOException)
        {
            refused = true;
        }

        Assert.True(refused, "64 MiB went into 16 MiB without an error");
        Assert.InRange(durable.Count, 8, 16);

        // Room again, as when an administrator has cleaned up: the same mount goes on.
        Tool.Run("mount", "-o", "remount,size=96m", small);
        using (SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            Fill(piece, 60);
            RandomAccess.Write(file, piece, 60L * Mebibyte);
            Assert.Equal(0, Seek.Sync(file));
            durable.Add(60);
        }

        // The kernel remembers failed delayed writes; umount may report them, but it must end the mount cleanly.
        mount.TryUnmount();
        Assert.False(MountBox.IsMounted(mount.Point));
        DiskContent.AssertCheckClean(image, leaksAllowed: true);
        byte[] disk = DiskContent.ReadByPeer(image, box["peer.bin"]);
        foreach (int index in durable)
        {
            Fill(piece, index);
            DiskContent.AssertEqual(piece, disk.AsSpan(index * Mebibyte, Mebibyte), $"piece {index}, which was synced");
        }

        Tool.Run("umount", small);
    }

    private static void Fill(byte[] piece, int index) => new Random(index + 1000).NextBytes(piece);
}
