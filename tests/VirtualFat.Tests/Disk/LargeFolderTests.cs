using System.Buffers.Binary;
using System.Diagnostics;

namespace ImageMount.VirtualFat.Tests.Disk;

/// <summary>Hundreds of gigabytes: what is large costs nothing until it is read.</summary>
public sealed class LargeFolderTests
{
    private const int Files = 140;

    [Fact]
    public void Half_a_terabyte_opens_at_once_and_its_table_is_right_everywhere()
    {
        using var dir = new TempDir();
        for (int i = 0; i < Files; i++)
        {
            dir.WriteSparse($"file {i}", uint.MaxValue - i);
        }

        var watch = Stopwatch.StartNew();
        using TestDisk disk = TestDisk.Open(new VirtualFatOptions { Dir = dir.Path });
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(2), $"it took {watch.Elapsed}");
        FatGeometry geometry = disk.Geometry;
        Assert.Equal(FatType.Fat32, geometry.Type);
        Assert.True(geometry.TotalBytes > Files * ((4L << 30) - 4096));

        const int Seed = 8;
        var random = new Random(Seed);
        for (int i = 0; i < 2000; i++)
        {
            // Around the ends of chains half of the time: those are what can be wrong.
            long cluster = random.Next(2) == 0
                ? disk.Plan.StartOf(random.Next(disk.Plan.ChainCount)) - random.Next(0, 40)
                : random.NextInt64(0, geometry.LastCluster - 64);
            cluster = Math.Max(cluster, 0);
            int skew = random.Next(4);
            byte[] bytes = disk.Read(geometry.FatOffset(random.Next(2)) + cluster * 4 + skew, 257);
            for (int k = 0; k < 63; k++)
            {
                uint value = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan((k + 1) * 4 - skew));
                uint expected = cluster + k + 1 > geometry.LastCluster ? 0 : disk.Plan.FatValueOf((uint)(cluster + k + 1));
                Assert.True(expected == value, $"seed {Seed}, cluster {cluster + k + 1}: {value:x}, not {expected:x}");
            }
        }
    }

    [Fact]
    public void The_same_folder_has_the_same_ids_and_another_has_others()
    {
        using var dir = new TempDir();
        Directory.CreateDirectory(dir.File("a"));
        Directory.CreateDirectory(dir.File("b"));
        Directory.CreateSymbolicLink(dir.File("link"), dir.File("a"));
        VolumeIdentity Of(string name)
        {
            using TestDisk disk = TestDisk.Open(new VirtualFatOptions { Dir = dir.File(name) });
            return disk.Plan.Volume;
        }

        VolumeIdentity a = Of("a");
        File.WriteAllText(dir.File("a/file"), "x");
        Assert.Equal(a.SerialNumber, Of("a").SerialNumber);
        Assert.Equal(a.DiskId, Of("a").DiskId);
        Assert.Equal(a.SerialNumber, Of("link").SerialNumber);
        Assert.NotEqual(a.SerialNumber, Of("b").SerialNumber);
        Assert.NotEqual(0u, a.DiskId);
    }

    [Fact]
    public void The_partition_table_is_right_in_both_ways_of_counting()
    {
        using var dir = new TempDir();
        foreach (long size in (long[])[3L << 20, 100L << 20, 600L << 20, 7L << 30, 1L << 40])
        {
            using TestDisk disk = TestDisk.Open(new VirtualFatOptions { Dir = dir.Path, Size = size });
            FatGeometry geometry = disk.Geometry;
            byte[] record = disk.Read(0, 512);
            Assert.Equal([0x55, 0xaa], record[510..]);
            byte[] entry = record[446..462];
            long first = BinaryPrimitives.ReadUInt32LittleEndian(entry.AsSpan(8));
            long last = first + BinaryPrimitives.ReadUInt32LittleEndian(entry.AsSpan(12)) - 1;
            Assert.Equal(geometry.PartitionOffset, first * 512);
            Assert.Equal(geometry.VolumeSectors, last - first + 1);
            Assert.Equal(first, ToSector(entry.AsSpan(1, 3), geometry));
            bool reaches = last < 1024L * geometry.Heads * geometry.SectorsPerTrack;
            if (reaches)
            {
                Assert.Equal(last, ToSector(entry.AsSpan(5, 3), geometry));
            }
            else
            {
                Assert.Equal([254, 0xff, 0xff], entry[5..8]);
            }

            Assert.Equal(
                (geometry.Type, reaches, geometry.VolumeSectors < 65536) switch
                {
                    (FatType.Fat12, _, _) => 0x01,
                    (FatType.Fat16, _, true) => 0x04,
                    (FatType.Fat16, true, _) => 0x06,
                    (FatType.Fat16, false, _) => 0x0e,
                    (_, true, _) => 0x0b,
                    _ => 0x0c,
                },
                entry[4]);
        }
    }

    private static long ToSector(ReadOnlySpan<byte> chs, FatGeometry geometry)
    {
        int cylinder = chs[2] | (chs[1] & 0xc0) << 2;
        return ((long)cylinder * geometry.Heads + chs[0]) * geometry.SectorsPerTrack + (chs[1] & 63) - 1;
    }
}
