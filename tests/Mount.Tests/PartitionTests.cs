using ImageMount.Mount.Tests.Support;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Mount.Tests;

/// <summary>Partitions are files, and the kernel's own file systems work on them.</summary>
public sealed class PartitionTests
{
    private const int DiskLength = 64 * 1024 * 1024;
    private const int PartitionStart = 1024 * 1024;
    private const int PartitionLength = 48 * 1024 * 1024;

    [SkippableTheory]
    [InlineData("qcow2", "writeback")]
    [InlineData("qcow2", "none")]
    [InlineData("vmdk sparse", "writeback")]
    [InlineData("raw", "writeback")]
    public void Ext4_in_a_partition_survives_a_life_on_a_loop_device(string kind, string cacheMode)
    {
        Needs.Mounting("mkfs.ext4", "e2fsck", "debugfs", "sfdisk", "mount");
        Needs.LoopDevices();
        using var box = new MountBox();
        string image = Images.Make(box, kind, DiskWithOnePartition(box));
        MountedImage mount = box.Mount(image, "--cache", cacheMode);
        Assert.Equal(PartitionLength, new FileInfo(mount["p1"]).Length);

        Tool.Run("mkfs.ext4", "-q", "-F", mount["p1"]);
        string guest = Directory.CreateDirectory(box["guest"]).FullName;
        Tool.Run("mount", "-o", "loop", mount["p1"], guest);
        var written = new Dictionary<string, byte[]>();
        var random = new Random(5);
        for (int i = 0; i < 60; i++)
        {
            byte[] content = new byte[random.Next(0, 200_000)];
            random.NextBytes(content);
            string name = $"folder{i % 7}/file{i}";
            Directory.CreateDirectory(Path.Combine(guest, $"folder{i % 7}"));
            File.WriteAllBytes(Path.Combine(guest, name), content);
            written[name] = content;
        }

        Tool.Run("sync", "-f", guest);
        for (int i = 0; i < 60; i += 3)
        {
            File.Delete(Path.Combine(guest, $"folder{i % 7}/file{i}"));
            written.Remove($"folder{i % 7}/file{i}");
        }

        Tool.Run("umount", guest);
        mount.Unmount();

        string raw = box["after.bin"];
        Tool.Run("qemu-img", "convert", "-O", "raw", image, raw);
        Tool.Run("e2fsck", "-fn", $"{raw}?offset={PartitionStart}");
        Tool.Run("mount", "-o", $"loop,ro,offset={PartitionStart}", raw, guest);
        try
        {
            foreach ((string name, byte[] content) in written)
            {
                DiskContent.AssertEqual(content, File.ReadAllBytes(Path.Combine(guest, name)), name);
            }

            Assert.Equal(written.Count, Directory.GetFiles(guest, "file*", SearchOption.AllDirectories).Length);
        }
        finally
        {
            Tool.Run("umount", guest);
        }

        if (kind == "qcow2")
        {
            DiskContent.AssertCheckClean(image);
        }
    }

    [SkippableTheory]
    [InlineData("gpt")]
    [InlineData("dos")]
    public void Every_partition_is_a_file_with_the_bytes_of_the_disk(string label)
    {
        Needs.Mounting("sfdisk");
        using var box = new MountBox();
        byte[] content = new byte[16 * 1024 * 1024];
        new Random(8).NextBytes(content);
        // A DOS label with an extended partition: p4 holds the logical ones, p5 and p6.
        string table = label == "gpt"
            ? "label: gpt\nstart=2048,size=4096\nstart=8192,size=1000\nstart=10240,size=8192\n"
            : "label: dos\nstart=2048,size=4096,type=83\nstart=8192,size=1000,type=83\nstart=10240,size=2048,type=83\n" +
              "start=12288,size=16384,type=5\nstart=14336,size=2048,type=83\nstart=18432,size=4096,type=83\n";
        (int Number, int Start, int Sectors)[] expected = label == "gpt"
            ? [(1, 2048, 4096), (2, 8192, 1000), (3, 10240, 8192)]
            : [(1, 2048, 4096), (2, 8192, 1000), (3, 10240, 2048), (5, 14336, 2048), (6, 18432, 4096)];
        string source = box["table.bin"];
        File.WriteAllBytes(source, content);
        ToolResult made = Tool.TryWithInput(table, "sfdisk", "-q", "--wipe", "never", "--no-reread", source);
        Assert.True(made.ExitCode == 0, made.ToString());
        content = File.ReadAllBytes(source);
        string image = Images.Make(box, "qcow2", content);

        MountedImage mount = box.Mount(image);
        foreach ((int number, int start, int sectors) in expected)
        {
            DiskContent.AssertEqual(
                content.AsSpan(start * 512, sectors * 512), File.ReadAllBytes(mount[$"p{number}"]), $"p{number}");
        }

        int[] shown = [.. Directory.GetFiles(mount.Point, "p*").Select(path => int.Parse(Path.GetFileName(path)[1..],
            System.Globalization.CultureInfo.InvariantCulture)).Order()];
        Assert.Superset(expected.Select(part => part.Number).ToHashSet(), shown.ToHashSet());
        mount.Unmount();
    }

    [SkippableTheory]
    [InlineData("writeback")]
    [InlineData("none")]
    public void A_write_through_a_partition_is_a_write_to_the_disk_and_the_other_way_round(string cacheMode)
    {
        Needs.Mounting("sfdisk");
        using var box = new MountBox();
        string image = Images.Make(box, "qcow2", DiskWithOnePartition(box));
        MountedImage mount = box.Mount(image, "--cache", cacheMode);
        byte[] first = new byte[10_000];
        byte[] second = new byte[10_000];
        new Random(1).NextBytes(first);
        new Random(2).NextBytes(second);

        using (SafeFileHandle disk = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        using (SafeFileHandle part = File.OpenHandle(mount["p1"], FileMode.Open, FileAccess.ReadWrite))
        {
            RandomAccess.Write(part, first, 5000);
            Assert.Equal(0, Seek.Sync(part));
            byte[] buffer = new byte[10_000];
            RandomAccess.Read(disk, buffer, PartitionStart + 5000);
            DiskContent.AssertEqual(first, buffer, "the disk after a synced write through p1");
        }

        using (SafeFileHandle disk = File.OpenHandle(mount.Disk, FileMode.Open, FileAccess.ReadWrite))
        {
            RandomAccess.Write(disk, second, PartitionStart + 40_000);
            Assert.Equal(0, Seek.Sync(disk));
        }

        using (SafeFileHandle part = File.OpenHandle(mount["p1"]))
        {
            byte[] buffer = new byte[10_000];
            RandomAccess.Read(part, buffer, 40_000);
            DiskContent.AssertEqual(second, buffer, "p1 after a synced write through the disk");
        }

        mount.Unmount();
        byte[] after = DiskContent.ReadByPeer(image, box["peer.bin"]);
        DiskContent.AssertEqual(first, after.AsSpan(PartitionStart + 5000, 10_000), "the image, first write");
        DiskContent.AssertEqual(second, after.AsSpan(PartitionStart + 40_000, 10_000), "the image, second write");
    }

    private static byte[] DiskWithOnePartition(MountBox box)
    {
        string path = box["partitioned.bin"];
        using (SafeFileHandle file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write))
        {
            RandomAccess.SetLength(file, DiskLength);
        }

        string table = $"label: gpt\nstart={PartitionStart / 512},size={PartitionLength / 512}\n";
        ToolResult made = Tool.TryWithInput(table, "sfdisk", "-q", "--no-reread", path);
        Assert.True(made.ExitCode == 0, made.ToString());
        byte[] content = File.ReadAllBytes(path);
        File.Delete(path);
        return content;
    }
}
