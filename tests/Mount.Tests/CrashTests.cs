using System.Collections.Concurrent;
using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>The process that serves a mount dies in the middle of writing.</summary>
public sealed class CrashTests
{
    private const int Piece = 24 * 1024;
    private const int Pieces = 1500;

    [SkippableTheory]
    [InlineData("qcow2", "writeback", 1)]
    [InlineData("qcow2", "none", 2)]
    [InlineData("qcow2", "none", 3)]
    [InlineData("qcow2", "directsync", 4)]
    [InlineData("qcow2 lazy", "none", 5)]
    [InlineData("vmdk sparse", "none", 6)]
    public void After_kill_9_during_writes_the_image_is_sound_and_synced_data_is_there(
        string kind, string cacheMode, int seed)
    {
        Needs.Mounting();
        using var box = new MountBox();
        string image = Make(box, kind);
        MountedImage mount = box.Mount(image, "--cache", cacheMode);
        HashSet<int> durable = WriteUntilKilled(mount, seed, everyWriteIsDurable: cacheMode == "directsync");
        Assert.NotEmpty(durable);

        // The dead mount is still in the table; mounting again at the same place cleans it up.
        Assert.True(MountBox.IsMounted(mount.Point), "the dead mount went away by itself: the next step tests nothing");
        MountedImage again = box.MountAt(image, mount.Point, "--cache", cacheMode);
        Assert.Single(MountBox.MountsBelow(mount.Point));
        AssertPieces(File.ReadAllBytes(again.Disk), durable, "through the next mount");
        again.Unmount();

        if (kind.StartsWith("qcow2", StringComparison.Ordinal))
        {
            DiskContent.AssertCheckClean(image, leaksAllowed: true);
        }

        AssertPieces(DiskContent.ReadByPeer(image, box["peer.bin"]), durable, "the image");
    }

    [SkippableFact]
    public void A_dead_mount_is_unmounted_by_umount()
    {
        Needs.Mounting();
        using var box = new MountBox();
        MountedImage mount = box.Mount(Images.MakeEmpty(box, 1024 * 1024));
        Processes.Signal(mount.ProcessId, Processes.SigKill);
        Processes.WaitUntilEnded(mount.ProcessId);
        Assert.True(MountBox.IsMounted(mount.Point));

        // It may well say that the end was not clean; what counts is that the place is free again.
        mount.TryUnmount();

        Assert.False(MountBox.IsMounted(mount.Point));
    }

    private static string Make(MountBox box, string kind)
    {
        if (kind == "vmdk sparse")
        {
            Tool.Run(
                "qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicSparse", box["disk.vmdk"],
                $"{Piece * Pieces}");
            return box["disk.vmdk"];
        }

        return Images.MakeEmpty(
            box, Piece * Pieces, options: kind == "qcow2 lazy" ? "lazy_refcounts=on" : "cluster_size=4096");
    }

    /// <summary>
    /// Writes pieces in random order from three threads, syncing now and then, and kills the server after some syncs
    /// while the writers go on. Gives the pieces whose sync (or, where every write is durable, write) had returned.
    /// </summary>
    private static HashSet<int> WriteUntilKilled(MountedImage mount, int seed, bool everyWriteIsDurable)
    {
        int[] order = [.. Enumerable.Range(0, Pieces)];
        new Random(seed).Shuffle(order);
        var durable = new ConcurrentBag<int>();
        int next = -1;
        int synced = 0;
        var threads = new List<Thread>();
        for (int number = 0; number < 3; number++)
        {
            var thread = new Thread(() =>
            {
                try
                {
                    using SafeFileHandle file = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite);
                    var mine = new List<int>();
                    int at;
                    while ((at = Interlocked.Increment(ref next)) < Pieces)
                    {
                        RandomAccess.Write(file, PieceOf(order[at]), (long)order[at] * Piece);
                        mine.Add(order[at]);
                        if (everyWriteIsDurable || mine.Count == 12)
                        {
                            if (!everyWriteIsDurable && Seek.Sync(file) != 0)
                            {
                                return;
                            }

                            mine.ForEach(durable.Add);
                            mine.Clear();
                            int needed = everyWriteIsDurable ? 200 : 20;
                            if (Interlocked.Increment(ref synced) == needed)
                            {
                                Processes.Signal(mount.ProcessId, Processes.SigKill);
                            }
                        }
                    }
                }
                catch (Exception e) when (e is IOException or OperationCanceledException)
                {
                    // The server is dead: that is what this test does. Over io_uring the kernel says ECANCELED.
                }
            });
            thread.Start();
            threads.Add(thread);
        }

        threads.ForEach(thread => thread.Join());
        Processes.WaitUntilEnded(mount.ProcessId);
        return [.. durable];
    }

    /// <summary>Durable pieces are there; of the others every sector is either old (zero) or new.</summary>
    private static void AssertPieces(byte[] disk, HashSet<int> durable, string where)
    {
        for (int index = 0; index < Pieces; index++)
        {
            byte[] expected = PieceOf(index);
            ReadOnlySpan<byte> found = disk.AsSpan(index * Piece, Piece);
            if (durable.Contains(index))
            {
                DiskContent.AssertEqual(expected, found, $"{where}: synced piece {index}");
                continue;
            }

            for (int at = 0; at < Piece; at += 512)
            {
                ReadOnlySpan<byte> sector = found.Slice(at, 512);
                Assert.True(
                    sector.SequenceEqual(expected.AsSpan(at, 512)) || !sector.ContainsAnyExcept((byte)0),
                    $"{where}: piece {index}: the sector at 0x{at:x} is neither old nor new");
            }
        }
    }

    private static byte[] PieceOf(int index)
    {
        byte[] piece = new byte[Piece];
        new Random(index + 1).NextBytes(piece);
        return piece;
    }
}
