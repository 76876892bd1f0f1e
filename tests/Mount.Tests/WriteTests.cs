using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>What is written through a mount is in the image afterwards, says the peer.</summary>
public sealed class WriteTests
{
    private const int Length = (6 * 1024 * 1024) + 512;

    public static TheoryData<string> CacheModes() => ["writeback", "none", "writethrough", "directsync", "unsafe"];

    public static TheoryData<string> Kinds()
    {
        var rows = new TheoryData<string>();
        foreach (string kind in Images.Writable)
        {
            rows.Add(kind);
        }

        return rows;
    }

    [SkippableTheory]
    [MemberData(nameof(CacheModes))]
    public void Writes_survive_unmounting_in_every_cache_mode(string cacheMode) => WriteAndCompare("qcow2", cacheMode);

    [SkippableTheory]
    [MemberData(nameof(Kinds))]
    public void Writes_to_every_kind_of_image_are_what_the_peer_reads(string kind) => WriteAndCompare(kind, "writeback");

    [SkippableFact]
    public void Writes_do_not_touch_the_parent()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.Make(box, "qcow2 backed", DiskContent.Make(seed: 23, Length));
        byte[] parent = File.ReadAllBytes(box["parent.qcow2"]);
        MountedImage mount = box.Mount(image);
        using (SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            RandomAccess.Write(file, new byte[300_000], 123_456);
        }

        mount.Unmount();
        DiskContent.AssertEqual(parent, File.ReadAllBytes(box["parent.qcow2"]), "the parent's file");
        DiskContent.AssertCheckClean(image);
    }

    [SkippableFact]
    public void Writes_in_parallel_do_not_disturb_each_other()
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.MakeEmpty(box, 16 * 1024 * 1024);
        byte[] expected = new byte[16 * 1024 * 1024];
        new Random(77).NextBytes(expected);
        MountedImage mount = box.Mount(image, "--cache", "none");
        using (SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            // Pieces of 3,000 bytes: neighbours share sectors and clusters, and are written by different threads.
            const int Piece = 3000;
            int count = (expected.Length + Piece - 1) / Piece;
            Parallel.For(0, count, new ParallelOptions { MaxDegreeOfParallelism = 8 }, index =>
            {
                int offset = index * Piece;
                RandomAccess.Write(file, expected.AsSpan(offset, Math.Min(Piece, expected.Length - offset)), offset);
            });
        }

        mount.Unmount();
        DiskContent.AssertEqual(expected, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
        DiskContent.AssertCheckClean(image);
    }

    private static void WriteAndCompare(string kind, string cacheMode)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Images.Make(box, kind, DiskContent.Make(seed: 21, Length));
        byte[] expected = DiskContent.ReadByPeer(image, box["peer.bin"]);
        MountedImage mount = box.Mount(image, "--cache", cacheMode);
        using (SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            var random = new Random(4321);
            for (int i = 0; i < 150; i++)
            {
                int offset = random.Next(0, expected.Length);
                int length = Math.Min(i % 4 == 0 ? random.Next(1, 300_000) : random.Next(1, 6000), expected.Length - offset);
                random.NextBytes(expected.AsSpan(offset, length));
                RandomAccess.Write(file, expected.AsSpan(offset, length), offset);
                if (i % 10 == 9)
                {
                    Assert.Equal(0, Seek.Sync(file));
                }

                int back = random.Next(0, expected.Length - 5000);
                byte[] buffer = new byte[5000];
                RandomAccess.Read(file, buffer, back);
                DiskContent.AssertEqual(expected.AsSpan(back, 5000), buffer, $"read back at 0x{back:x} after write {i}");
            }
        }

        mount.Unmount();
        DiskContent.AssertEqual(expected, DiskContent.ReadByPeer(image, box["peer.bin"]), "the image");
        if (kind.StartsWith("qcow2", StringComparison.Ordinal))
        {
            DiskContent.AssertCheckClean(image);
        }
    }
}
