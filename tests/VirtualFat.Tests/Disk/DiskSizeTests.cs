using Microsoft.Win32.SafeHandles;

namespace ImageMount.VirtualFat.Tests.Disk;

/// <summary>
/// The smallest disks and the largest beside peers: floppies of each size, and 2 TiB. IMGMOUNT_FAT_LARGE=1 has fsck.fat look
/// at all of 2 TiB, which takes it seconds; else it looks at 256 GiB.
/// </summary>
public sealed class DiskSizeTests
{
    [SkippableTheory]
    [InlineData(FloppySize.Size1200, FatTypeOption.Fat12, 15, 2371)]
    [InlineData(FloppySize.Size1440, FatTypeOption.Fat12, 18, 2847)]
    [InlineData(FloppySize.Size2880, FatTypeOption.Fat12, 36, 2863)]
    [InlineData(FloppySize.Size2880, FatTypeOption.Fat16, 36, 5698)]
    public void A_floppy_that_is_full(FloppySize size, FatTypeOption type, int sectorsPerTrack, int clusters)
    {
        using var dir = new TempDir();
        string root = Directory.CreateDirectory(dir.File("folder")).FullName;
        var options = new VirtualFatOptions { Dir = root, Floppy = true, FloppySize = size, FatType = type };
        int clusterSize;
        using (TestDisk empty = TestDisk.Open(options))
        {
            Assert.Equal((uint)clusters, empty.Geometry.ClusterCount);
            clusterSize = empty.Geometry.ClusterSize;
        }

        byte[] content = Applying.ApplyTests.TestBytes(clusters * clusterSize - 7, 3);
        File.WriteAllBytes(Path.Join(root, "Everything that fits.bin"), content);
        using (TestDisk disk = TestDisk.Open(options))
        {
            byte[] bytes = disk.ReadAll(new Random(1));
            Assert.Equal(content, new FatReader(bytes).Files.Single().Content);
            string image = dir.Write("floppy", bytes);
            Assert.True(Mtools.IsClean(image, out string said), said);
            said = Mtools.Run("minfo", "-i", image, "::");
            Assert.Contains($"sectors per track: {sectorsPerTrack}", said, StringComparison.Ordinal);
            Assert.Contains("heads: 2", said, StringComparison.Ordinal);
            Mtools.On(image, "mcopy", "-n", "::Everything that fits.bin", dir.File("copy"));
            Assert.Equal(content, File.ReadAllBytes(dir.File("copy")));
        }

        File.WriteAllBytes(Path.Join(root, "x"), [1]);
        Assert.Throws<BlockException>(() => TestDisk.Open(options).Dispose());
    }

    [SkippableFact]
    public void The_largest_disk_with_the_largest_file()
    {
        Require.Tool("fsck.fat");
        Require.Tool("mcopy");
        using var dir = new TempDir();
        string root = Directory.CreateDirectory(dir.File("folder")).FullName;
        Directory.CreateDirectory(Path.Join(root, "a folder"));
        byte[] small = Applying.ApplyTests.TestBytes(100_000, 5);
        File.WriteAllBytes(Path.Join(root, "a folder", "small.bin"), small);
        bool all = Environment.GetEnvironmentVariable("IMGMOUNT_FAT_LARGE") == "1";
        Check(dir, root, 2L << 40, uint.MaxValue, small, checks: false);

        // fsck.fat counts the bytes of a chain in 32 bits, and takes one of 4 GiB for empty.
        Check(dir, root, all ? 2L << 40 : 256L << 30, uint.MaxValue - (32 << 10), small, checks: true);
    }

    private static void Check(TempDir dir, string root, long size, long largest, byte[] small, bool checks)
    {
        MakeLargeFile(Path.Join(root, "large.bin"), largest);
        using TestDisk disk = TestDisk.Open(new VirtualFatOptions { Dir = root, Size = size });
        Assert.Equal(FatType.Fat32, disk.Geometry.Type);
        Assert.InRange(disk.Geometry.TotalBytes, size - (1 << 20), size);
        string image = CopySparse(dir, disk);
        string volume = $"{image}@@{disk.Geometry.PartitionOffset}";
        Assert.Equal("::/a folder/\n::/large.bin\n", Mtools.Run("mdir", "-b", "-i", volume, "::"));
        Assert.Contains(largest.ToString(), Mtools.Run("mdir", "-i", volume, "::/large.bin").Replace(" ", ""), StringComparison.Ordinal);
        Mtools.On(volume, "mcopy", "-n", "::a folder/small.bin", dir.File("small"));
        Assert.Equal(small, File.ReadAllBytes(dir.File("small")));
        Assert.Contains(
            $"cluster size: {disk.Geometry.SectorsPerCluster} sectors", Mtools.Run("minfo", "-i", volume, "::"),
            StringComparison.Ordinal);

        // The last bytes of the largest file are at its end, and 4 GiB further there is nothing.
        PlannedEntry large = disk.Plan.Entries.Single(entry => entry.LongName == "large.bin");
        long end = disk.Geometry.ClusterOffset(large.FirstCluster) + largest;
        Assert.Equal("the end"u8.ToArray(), disk.Read(end - 7, 7));
        Assert.Equal(new byte[4096], disk.Read(disk.Geometry.TotalBytes - 4096, 4096));
        if (checks)
        {
            using (SafeFileHandle file = File.OpenHandle(image, access: FileAccess.ReadWrite))
            {
                // fsck.fat wants the volume at the beginning of what it looks at.
                CopyVolume(disk, file, disk.Geometry.PartitionOffset);
            }

            (int code, string said) = Tool.Run("fsck.fat", "-n", image);
            Assert.True(code == 0, said);
            Assert.Contains($"/{disk.Geometry.ClusterCount} clusters", said, StringComparison.Ordinal);
        }

        File.Delete(image);
        File.Delete(dir.File("small"));
    }

    private static void MakeLargeFile(string path, long length)
    {
        using SafeFileHandle file = File.OpenHandle(path, FileMode.Create, FileAccess.Write);
        RandomAccess.Write(file, "the end"u8, length - 7);
    }

    private static string CopySparse(TempDir dir, TestDisk disk)
    {
        string image = dir.File("disk");
        using SafeFileHandle file = File.OpenHandle(image, FileMode.Create, FileAccess.Write);
        CopyVolume(disk, file, 0);
        return image;
    }

    /// <summary>Copies what is not zero, and so relies on what the disk says of itself.</summary>
    private static void CopyVolume(TestDisk disk, SafeFileHandle file, long start)
    {
        RandomAccess.SetLength(file, 0);
        RandomAccess.SetLength(file, disk.Geometry.TotalBytes - start);
        for (long at = start; at < disk.Geometry.TotalBytes;)
        {
            BlockExtent extent = disk.Synthesiser
                .MapAsync(at, Math.Min(disk.Geometry.TotalBytes - at, 1 << 30), CancellationToken.None).Result;
            for (long done = 0; extent.IsData && done < extent.Length; done += 1 << 20)
            {
                int count = (int)Math.Min(1 << 20, extent.Length - done);
                RandomAccess.Write(file, disk.Read(at + done, count), at + done - start);
            }

            at += extent.Length;
        }
    }
}
