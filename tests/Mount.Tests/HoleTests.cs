using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>Holes: found by SEEK_HOLE, made by punching, counted in st_blocks.</summary>
public sealed class HoleTests
{
    private const int Mebibyte = 1024 * 1024;

    [SkippableTheory]
    [InlineData("qcow2", 65536)]
    [InlineData("vmdk sparse", 65536)]
    [InlineData("raw", 4096)]
    public void Data_is_found_where_it_is_and_nowhere_else(string kind, int granularity)
    {
        Needs.Mounting("cp");
        using var box = new MountBox();
        byte[] content = new byte[64 * Mebibyte];
        new Random(61).NextBytes(content.AsSpan(3 * Mebibyte, 70_000));
        new Random(62).NextBytes(content.AsSpan(40 * Mebibyte, 10));
        string image = kind == "raw" ? MakeSparseRaw(box, content) : Images.Make(box, kind, content);
        MountedImage mount = box.Mount(image, "--read-only");

        List<(long Start, long End)> runs = Seek.DataRuns(mount.Disk);
        Assert.Equal(2, runs.Count);
        AssertCovers(runs[0], 3 * Mebibyte, 70_000, granularity);
        AssertCovers(runs[1], 40 * Mebibyte, 10, granularity);

        // A program that knows holes: the copy has the same bytes, and takes a fraction of the space.
        Tool.Run("cp", "--sparse=never", mount.Disk, box["copy"]);
        DiskContent.AssertEqual(content, File.ReadAllBytes(box["copy"]), "the copy");
        Assert.True(AllocatedBytes(mount.Disk) < 8 * Mebibyte, "st_blocks counts the holes");
        mount.Unmount();
    }

    [SkippableTheory]
    [InlineData("qcow2", "writeback")]
    [InlineData("qcow2", "none")]
    [InlineData("raw", "writeback")]
    public void Punching_a_hole_zeroes_it_and_gives_the_space_back(string kind, string cacheMode)
    {
        Needs.Mounting("fallocate");
        using var box = new MountBox();
        byte[] content = new byte[32 * Mebibyte];
        new Random(63).NextBytes(content);
        string image = Images.Make(box, kind, content);
        long before = AllocatedBytes(image);
        MountedImage mount = box.Mount(image, "--cache", cacheMode);

        Tool.Run("fallocate", "--punch-hole", "--offset", "1000000", "--length", "20000000", mount.Disk);
        content.AsSpan(1_000_000, 20_000_000).Clear();
        DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "the mount after punching");
        mount.Unmount();

        DiskContent.AssertEqual(content, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
        Assert.True(
            AllocatedBytes(image) < before - (15 * Mebibyte),
            $"the image still takes {AllocatedBytes(image)} bytes of {before}");
        if (kind == "qcow2")
        {
            DiskContent.AssertCheckClean(image);
        }
    }

    [SkippableFact]
    public void Zeroing_a_range_zeroes_exactly_that_range()
    {
        Needs.Mounting("fallocate");
        using var box = new MountBox();
        byte[] content = new byte[4 * Mebibyte];
        new Random(64).NextBytes(content);
        string image = Images.Make(box, "qcow2", content);
        MountedImage mount = box.Mount(image);

        foreach ((int offset, int length) in ((int, int)[])[(100, 1), (70_000, 300_000), (2_000_001, 65_537)])
        {
            Tool.Run("fallocate", "--zero-range", "--offset", $"{offset}", "--length", $"{length}", mount.Disk);
            content.AsSpan(offset, length).Clear();
        }

        DiskContent.AssertEqual(content, File.ReadAllBytes(mount.Disk), "the mount");
        mount.Unmount();
        DiskContent.AssertEqual(content, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
        DiskContent.AssertCheckClean(image);
    }

    [SkippableFact]
    public void A_discard_from_a_file_system_in_a_partition_reaches_the_image()
    {
        Needs.Mounting("mkfs.ext4", "fstrim", "mount");
        Needs.LoopDevices();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, 128 * Mebibyte);
        MountedImage mount = box.Mount(image);
        Tool.Run("mkfs.ext4", "-q", "-F", mount.Disk);
        string guest = Directory.CreateDirectory(box["guest"]).FullName;
        Tool.Run("mount", "-o", "loop", mount.Disk, guest);
        byte[] junk = new byte[60 * Mebibyte];
        new Random(65).NextBytes(junk);
        File.WriteAllBytes(Path.Combine(guest, "junk"), junk);
        Tool.Run("sync", "-f", guest);
        long full = AllocatedBytes(image);
        File.Delete(Path.Combine(guest, "junk"));
        Tool.Run("sync", "-f", guest);
        Tool.Run("fstrim", guest);
        Tool.Run("umount", guest);
        mount.Unmount();

        Assert.True(full > 60 * Mebibyte, $"only {full} bytes were allocated: this test shows nothing");
        Assert.True(AllocatedBytes(image) < full - (50 * Mebibyte), $"{AllocatedBytes(image)} bytes left of {full}");
        DiskContent.AssertCheckClean(image);
    }

    private static string MakeSparseRaw(MountBox box, byte[] content)
    {
        string path = box["sparse.img"];
        using SafeFileHandle file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write);
        RandomAccess.SetLength(file, content.Length);
        for (int at = 0; at < content.Length; at += 4096)
        {
            ReadOnlySpan<byte> page = content.AsSpan(at, 4096);
            if (page.ContainsAnyExcept((byte)0))
            {
                RandomAccess.Write(file, page, at);
            }
        }

        return path;
    }

    private static void AssertCovers((long Start, long End) run, long offset, long length, long granularity)
    {
        Assert.InRange(run.Start, offset - granularity, offset);
        Assert.InRange(run.End, offset + length, offset + length + granularity);
    }

    private static long AllocatedBytes(string path) =>
        long.Parse(Tool.Run("stat", "-c", "%b", path), System.Globalization.CultureInfo.InvariantCulture) * 512;
}
