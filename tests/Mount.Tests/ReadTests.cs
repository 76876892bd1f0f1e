using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>What is read through a mount is what qemu-img says the disk holds.</summary>
public sealed class ReadTests
{
    // Not a multiple of a page or a cluster: the last request is a short one.
    private const int Length = (12 * 1024 * 1024) + (3 * 512);

    public static TheoryData<string, string> KindsAndModes()
    {
        var rows = new TheoryData<string, string>();
        foreach (string kind in Images.Readable)
        {
            rows.Add(kind, "writeback");
            rows.Add(kind, "none");
        }

        return rows;
    }

    [SkippableTheory]
    [MemberData(nameof(KindsAndModes))]
    public void Reads_at_every_alignment_are_what_the_peer_reads(string kind, string cacheMode)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.Make(box, kind, DiskContent.Make(seed: 11, Length));
        byte[] expected = DiskContent.ReadByPeer(image, box["peer.bin"]);
        MountedImage mount = box.Mount(image, "--read-only", "--cache", cacheMode);

        Assert.Equal(expected.Length, new FileInfo(mount.Disk).Length);
        using (SafeFileHandle file = File.OpenHandle(mount.Disk))
        {
            // Random places before the sweep: a sweep would fill the page cache, and they would never reach us.
            var random = new Random(1234);
            byte[] buffer = new byte[700_000];
            for (int i = 0; i < 400; i++)
            {
                int length = i % 3 == 0 ? random.Next(1, 700_000) : random.Next(1, 9000);
                int offset = random.Next(0, expected.Length);
                int count = RandomAccess.Read(file, buffer.AsSpan(0, length), offset);
                int wanted = Math.Min(length, expected.Length - offset);
                DiskContent.AssertEqual(
                    expected.AsSpan(offset, wanted), buffer.AsSpan(0, count), $"read {i} of {length} at 0x{offset:x}");
            }
        }

        DiskContent.AssertEqual(expected, File.ReadAllBytes(mount.Disk), "the whole disk");
        mount.Unmount();
    }

    [SkippableFact]
    public void Reads_at_and_past_the_end_stop_at_the_end()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.Make(box, "qcow2", DiskContent.Make(seed: 12, 1024 * 1024));
        MountedImage mount = box.Mount(image, "--read-only", "--cache", "none");
        using (SafeFileHandle file = File.OpenHandle(mount.Disk))
        {
            byte[] buffer = new byte[8192];
            Assert.Equal(100, RandomAccess.Read(file, buffer, (1024 * 1024) - 100));
            Assert.Equal(0, RandomAccess.Read(file, buffer, 1024 * 1024));
            Assert.Equal(0, RandomAccess.Read(file, buffer, 1L << 50));
        }

        mount.Unmount();
    }

    [SkippableTheory]
    [InlineData("hello.vmdk")]
    [InlineData("hello.qcow2")]
    public void The_sample_shows_its_partitions_and_its_files(string sample)
    {
        Needs.Mounting("debugfs");
        using var box = new MountBox();
        string image = box[sample];
        File.Copy(Path.Combine(Tool.Repository, "samples", sample), image);
        MountedImage mount = box.Mount(image, "--read-only");

        Assert.Equal(3072 * 512, new FileInfo(mount["p1"]).Length);
        Assert.Equal(2048 * 512, new FileInfo(mount["p2"]).Length);
        string text = Tool.Run("debugfs", "-R", "cat /tree/branch/leaf.txt", mount["p1"]);
        Assert.Contains("a file three folders down", text, StringComparison.Ordinal);
        mount.Unmount();
    }
}
