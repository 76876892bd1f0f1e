using System.Buffers.Binary;
using ImageMount.VirtualFat.Volume;

namespace ImageMount.VirtualFat.Tests.Disk;

/// <summary>
/// The number of clusters is all that tells FAT12, FAT16 and FAT32 apart. Ours stay away from the borders, and are full to
/// the last cluster here; others' lie right on them.
/// </summary>
public sealed class BorderTests
{
    [SkippableTheory]
    [InlineData(FatTypeOption.Fat12, 4100, 1, 4010, 4068)]
    [InlineData(FatTypeOption.Fat16, 4221, 1, 4101, 4160)]
    [InlineData(FatTypeOption.Fat16, 262144, 4, 65350, 65508)]
    [InlineData(FatTypeOption.Fat32, 66660, 1, 65541, 65620)]
    public void A_disk_at_the_border_of_its_type_that_is_full(
        FatTypeOption type, long sectors, int sectorsPerCluster, int least, int most)
    {
        using var dir = new TempDir();
        string root = Directory.CreateDirectory(dir.File("folder")).FullName;
        var options = new VirtualFatOptions { Dir = root, FatType = type, Size = sectors * 512, Partitioned = false };
        uint clusters;
        using (TestDisk empty = TestDisk.Open(options))
        {
            clusters = empty.Geometry.ClusterCount;
            Assert.Equal(sectorsPerCluster, empty.Geometry.SectorsPerCluster);
            Assert.InRange((int)clusters, least, most);
        }

        int clusterSize = sectorsPerCluster * 512;
        // Two files over everything but a folder and, on FAT32, the root: each chain is longer than a sector of the FAT.
        Directory.CreateDirectory(Path.Join(root, "sub"));
        long left = clusters - 1 - (type == FatTypeOption.Fat32 ? 1 : 0);
        byte[] content = new byte[left * clusterSize];
        new Random(least).NextBytes(content);
        int half = content.Length / 3;
        File.WriteAllBytes(Path.Join(root, "first.bin"), content[..half]);
        long rest = left - (half + clusterSize - 1) / clusterSize;
        File.WriteAllBytes(Path.Join(root, "sub", "last.bin"), content[^((int)rest * clusterSize)..]);
        using (TestDisk full = TestDisk.Open(options))
        {
            Assert.Equal((FatType)type, full.Geometry.Type);
            Assert.Equal(full.Geometry.ClusterCount, full.Plan.UsedClusters);
            byte[] bytes = full.Read(0, (int)full.Geometry.TotalBytes);
            if (sectorsPerCluster == 1)
            {
                var reader = new FatReader(bytes);
                Assert.Equal((int)type, reader.Bits);
                Assert.Equal(clusters, reader.Clusters);
                Assert.Equal(content[..half], reader.Files.Single(file => file.Path == "first.bin").Content);
            }

            VolumeReading reading = new MemoryDisk(bytes).ReadVolume();
            Assert.True(reading.IsConsistent, reading.Findings.ToString());
            string volume = dir.Write("volume", bytes);
            Assert.True(Mtools.IsClean(volume, out string said), said);
            Assert.Contains($"{clusters}/{clusters} clusters", said, StringComparison.Ordinal);
            Mtools.On(volume, "mcopy", "-n", "::sub/last.bin", dir.File("copy"));
            Assert.Equal(content[^((int)rest * clusterSize)..], File.ReadAllBytes(dir.File("copy")));
            (_, said) = Tool.Run("minfo", "-i", volume, "::");
            Assert.Contains($"disk type=\"FAT{(int)type}", said, StringComparison.Ordinal);
        }

        // One cluster more is another volume, with larger clusters, or none.
        File.AppendAllText(Path.Join(root, "first.bin"), new string('x', clusterSize));
        try
        {
            using TestDisk other = TestDisk.Open(options);
            Assert.True(other.Geometry.SectorsPerCluster > sectorsPerCluster);
        }
        catch (BlockException e)
        {
            Assert.True(e.Kind is BlockErrorKind.NoSpace or BlockErrorKind.InvalidArgument, e.Describe());
        }
    }

    /// <summary>Volumes that mkfs.fat makes with exactly so many clusters are read as what fsck.fat says they are.</summary>
    [SkippableTheory]
    [InlineData(4084, 12)]
    [InlineData(4085, 16)]
    [InlineData(65524, 16)]
    [InlineData(65525, 32)]
    public void Volumes_of_others_on_the_border(int clusters, int bits)
    {
        Require.Tool("mkfs.fat");
        using var dir = new TempDir();
        long fat = (clusters + 2L) * bits / 8 / 512 + 1;
        long sectors = (bits == 32 ? 32 : 1 + 32) + 2 * fat + clusters;
        string image = "";
        string said = "";
        int code = 1;
        for (int more = 8; code != 0 && more > -4; more--)
        {
            image = dir.WriteSparse("volume", (sectors + more) * 512);
            code = Mtools.TryRun(
                "mkfs.fat", ["-a", "-F", $"{bits}", "-s", "1", "-R", bits == 32 ? "32" : "1", "-i", "1234abcd", image],
                out said);
        }

        Assert.True(code == 0, said);
        byte[] bytes = File.ReadAllBytes(image);
        uint made = VolumeGeometry.Parse(bytes, 0, bytes.Length, out _, out _)!.ClusterCount;

        // mkfs.fat stays away from the borders: sectors are taken off until the number is right.
        int at = BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(19)) != 0 ? 19 : 32;
        uint total = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at)) & (at == 19 ? 0xffffu : uint.MaxValue);
        Assert.InRange((int)made, clusters, clusters + 20);
        total -= made - (uint)clusters;
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(at), (ushort)total);
        BinaryPrimitives.WriteUInt16LittleEndian(
            bytes.AsSpan(at == 19 ? 19 : 34), (ushort)(at == 19 ? total : total >> 16));
        if (bits == 32)
        {
            // The copy of the boot sector, and the number of free clusters.
            bytes.AsSpan(0, 512).CopyTo(bytes.AsSpan(6 * 512));
            BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(512 + 488), clusters - 1);
        }

        File.WriteAllBytes(image, bytes);
        VolumeGeometry found = VolumeGeometry.Parse(bytes, 0, bytes.Length, out _, out _)!;
        Assert.Equal((bits, (uint)clusters), ((int)found.Type, found.ClusterCount));
        byte[] content = Applying.ApplyTests.TestBytes(clusters / 2 * 512, clusters);
        string source = dir.Write("source", content);
        Mtools.On(image, "mcopy", source, "::file");
        Assert.True(Mtools.IsClean(image, out said), said);
        Assert.Contains($"/{clusters} clusters", said, StringComparison.Ordinal);
        VolumeReading reading = new MemoryDisk(File.ReadAllBytes(image)).ReadVolume();
        Assert.True(reading.IsConsistent, reading.Findings.ToString());
        VolumeNode node = Assert.Single(reading.Tree!.Nodes, node => !node.IsDirectory);
        Assert.Equal((uint)content.Length, node.Size);
        Assert.Equal((uint)(content.Length / 512), (uint)node.Runs.Sum(run => run.Count));
    }
}
