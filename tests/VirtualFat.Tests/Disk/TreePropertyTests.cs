using System.Globalization;
using Xunit.Abstractions;

namespace ImageMount.VirtualFat.Tests.Disk;

/// <summary>
/// Generated folders: fsck.fat finds nothing, our own reader of the specification and mtools see exactly the folder.
/// IMGMOUNT_FAT_TREES says how many; each prints its seed.
/// </summary>
public sealed class TreePropertyTests(ITestOutputHelper output)
{
    private const string CountVariable = "IMGMOUNT_FAT_TREES";
    private const string SeedVariable = "IMGMOUNT_FAT_SEED";

    private static int Number(string variable, int otherwise) => int.TryParse(
        Environment.GetEnvironmentVariable(variable), CultureInfo.InvariantCulture, out int number)
        ? number : otherwise;

    [SkippableFact]
    public void Peers_see_the_folder()
    {
        Require.Tool("fsck.fat");
        Require.Tool("mcopy");
        int first = Number(SeedVariable, 1000);
        int count = Number(CountVariable, 25);
        for (int seed = first; seed < first + count; seed++)
        {
            try
            {
                Check(seed);
            }
            catch (Exception)
            {
                output.WriteLine($"seed {seed}: {SeedVariable}={seed} {CountVariable}=1");
                throw;
            }
        }
    }

    private static void Check(int seed)
    {
        var random = new Random(seed);
        using var dir = new TempDir();
        string root = Directory.CreateDirectory(dir.File("folder")).FullName;
        VirtualFatOptions options = Choose(random, root, out int clusterSize);
        Dictionary<string, byte[]?> tree = new TreeMaker(random).Make(root, random.Next(0, 120), clusterSize);
        using TestDisk disk = TestDisk.Open(options);
        byte[] bytes = disk.ReadAll(random);
        disk.CheckMap(bytes);

        var reader = new FatReader(bytes);
        Assert.Equal((int)disk.Geometry.Type, reader.Bits);
        Assert.Equal(disk.Geometry.ClusterCount, reader.Clusters);
        Compare(root, tree, reader);
        CheckByPeers(dir, disk, bytes, tree);
    }

    private static VirtualFatOptions Choose(Random random, string root, out int clusterSize)
    {
        clusterSize = random.Next(3) == 0 ? 2048 : 512;
        var options = new VirtualFatOptions { Dir = root, Partitioned = random.Next(2) == 0 };
        return random.Next(7) switch
        {
            0 => options with { Floppy = true },
            1 => options with { Floppy = true, FloppySize = FloppySize.Size2880, FatType = FatTypeOption.Fat16 },
            2 => options with { FatType = FatTypeOption.Fat12, Size = random.NextInt64(3 << 20, 20 << 20) },
            3 => options with { FatType = FatTypeOption.Fat16, Size = random.NextInt64(6 << 20, 16 << 20) },
            4 => options with { FatType = FatTypeOption.Fat32, Size = random.NextInt64(36 << 20, 40 << 20), Label = "" },
            5 => options with { Size = random.NextInt64(3 << 20, 24 << 20), Label = "a label" },
            _ => options,
        };
    }

    private static void Compare(string root, Dictionary<string, byte[]?> tree, FatReader reader)
    {
        Assert.Equal(tree.Keys.Order(StringComparer.Ordinal), reader.Files.Select(f => f.Path).Order(StringComparer.Ordinal));
        foreach (FatFile file in reader.Files)
        {
            byte[]? content = tree[file.Path];
            Assert.Equal(content is null, file.IsFolder);
            if (content is not null)
            {
                Assert.True(content.AsSpan().SequenceEqual(file.Content), file.Path);
                DateTime time = File.GetLastWriteTimeUtc(Path.Join(root, file.Path));
                Assert.Equal((time.Year - 1980) * 512 + time.Month * 32 + time.Day, file.WriteDate);
                Assert.Equal(time.Hour * 2048 + time.Minute * 32 + time.Second / 2, file.WriteTime);
            }
        }
    }

    private static void CheckByPeers(TempDir dir, TestDisk disk, byte[] bytes, Dictionary<string, byte[]?> tree)
    {
        string volume = dir.File("volume");
        WriteSparse(volume, bytes.AsSpan((int)disk.Geometry.PartitionOffset));
        (int code, string said) = Tool.Run("fsck.fat", "-n", volume);
        Assert.True(code == 0, said);

        // What mtools cannot show in its character set it shows as '_'; those names are only in our own comparison.
        (code, said) = Tool.Run("mdir", "-s", "-a", "-b", "-i", volume, "::");
        var listed = said.Split('\n').Select(line => line.TrimEnd('/')).ToHashSet(StringComparer.Ordinal);
        string copies = Directory.CreateDirectory(dir.File("copies")).FullName;
        Tool.Run("mcopy", "-s", "-n", "-i", volume, "::", copies);
        foreach ((string path, byte[]? content) in tree)
        {
            if (path.All(c => c < 0x7f || (c < 0x250 && char.IsLetter(c))))
            {
                Assert.True(listed.Contains("::/" + path), $"mdir does not show {path}: {said}");
                Assert.True(
                    content is null || content.AsSpan().SequenceEqual(File.ReadAllBytes(Path.Join(copies, path))), path);
            }
        }

        (code, said) = Tool.Run("minfo", "-i", volume, "::");
        Assert.True(code == 0, said);
        Assert.Contains($"cluster size: {disk.Geometry.SectorsPerCluster} sectors", said, StringComparison.Ordinal);
    }

    private static void WriteSparse(string path, ReadOnlySpan<byte> bytes)
    {
        const int Piece = 1 << 16;
        using Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(path, FileMode.Create, FileAccess.Write);
        RandomAccess.SetLength(file, bytes.Length);
        for (int at = 0; at < bytes.Length; at += Piece)
        {
            ReadOnlySpan<byte> piece = bytes[at..Math.Min(at + Piece, bytes.Length)];
            if (piece.IndexOfAnyExcept((byte)0) >= 0)
            {
                RandomAccess.Write(file, piece, at);
            }
        }
    }
}
