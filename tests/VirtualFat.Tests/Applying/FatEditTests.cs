using System.Buffers.Binary;
using ImageMount.VirtualFat.Applying;
using ImageMount.VirtualFat.Volume;
using Xunit.Abstractions;

namespace ImageMount.VirtualFat.Tests.Applying;

/// <summary>
/// Edits of the FAT and of directories themselves, as a kernel makes them and as no mtools would: chains in pieces and
/// backwards, entries in other places; and such as leave the volume damaged, of which nothing may reach the folder.
/// </summary>
public sealed class FatEditTests(ITestOutputHelper output)
{
    [SkippableTheory]
    [InlineData(31, 1440)]
    [InlineData(32, 1440)]
    [InlineData(33, 3_000, "-F", "16", "-s", "1")]
    [InlineData(34, 36_000, "-F", "32", "-s", "1")]
    public void Edits_that_keep_the_volume_whole(int seed, int kibibytes, params string[] options)
    {
        seed = Seeds.Shift(seed);
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        using var folder = new WrittenFolder(directory => Fill(directory, random), kibibytes, options);
        string target = Path.Join(folder.Folder, "..", "out");
        for (int round = 0; round < (kibibytes > 20_000 ? 2 : 5); round++)
        {
            byte[] before = folder.ReadDisk();
            var volume = new EditedVolume(before, random);
            for (int i = 0; i < 12; i++)
            {
                volume.EditOnce();
            }

            folder.Write(before, volume.Bytes);
            ApplyReport report = folder.Apply();
            Assert.Empty(report.Notes);
            Directory.CreateDirectory(target);
            File.WriteAllBytes(folder.Image, volume.Bytes);
            Assert.True(Mtools.IsClean(folder.Image, out string fsck) || fsck.Contains("Free cluster summary"), fsck);
            Mtools.On(folder.Image, "mcopy", "-s", "-n", "::*", target);
            Assert.Equal(WrittenFolder.Describe(target), folder.Describe());
            Directory.Delete(target, recursive: true);
        }
    }

    /// <summary>
    /// Random damage to FATs, directories and boot sector. What fsck.fat finds fault with never reaches the folder, is kept
    /// in the journal, and can be repaired from there; what does reach it is what mtools takes from the disk.
    /// </summary>
    [SkippableTheory]
    [InlineData(41, 1440)]
    [InlineData(42, 3_000, "-F", "16", "-s", "1")]
    public void Damage_never_reaches_the_folder(int seed, int kibibytes, params string[] options)
    {
        seed = Seeds.Shift(seed);
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        using var folder = new WrittenFolder(directory => Fill(directory, random), kibibytes, options);
        ConflictTests.Replace(folder, "new.bin", 9000);
        byte[] good = folder.ReadDisk();
        string untouched = folder.Describe();
        int inconsistent = 0;
        for (int i = 0; i < 30; i++)
        {
            byte[] bad = Damage(good, random, out string what);
            File.WriteAllBytes(folder.Image, bad);
            bool isClean = Mtools.IsClean(folder.Image, out string fsck);
            folder.Write(folder.ReadDisk(), bad);
            ApplyReport report = folder.Flush();
            if (report.Outcome != ApplyOutcome.Inconsistent)
            {
                Assert.True(isClean, $"seed {seed}, {what}: applied, and fsck.fat says {fsck}");
                string target = Directory.CreateDirectory(Path.Join(folder.Folder, "..", "out")).FullName;
                Mtools.On(folder.Image, "mcopy", "-s", "-n", "::*", target);

                // Damaged names are shown in different ways; whatever they are called, these are the contents.
                Assert.Equal(Contents(target), Contents(folder.Folder));
                Directory.Delete(target, recursive: true);
                untouched = folder.Describe();
                continue;
            }

            inconsistent++;
            Assert.True(untouched == folder.Describe(), $"seed {seed}, {what}: the folder changed");
            Assert.True(File.Exists(folder.JournalFile), $"seed {seed}, {what}: no journal");
            if (inconsistent % 8 == 0)
            {
                folder.Recover(withJournal: true);
                Assert.True(folder.ReadDisk().AsSpan().SequenceEqual(bad), $"seed {seed}, {what}: the journal lost it");
            }
        }

        Assert.InRange(inconsistent, 15, 30);
        folder.Write(folder.ReadDisk(), good);
        folder.Apply();
        Assert.Equal(9000, new FileInfo(Path.Join(folder.Folder, "new.bin")).Length);
    }

    private static IEnumerable<string> Contents(string folder) =>
        WrittenFolder.Describe(folder).Split('\n').Select(line => line[(line.LastIndexOf(':') + 1)..])
            .Where(content => !content.EndsWith('/')).Order(StringComparer.Ordinal);

    private static byte[] Damage(byte[] good, Random random, out string what)
    {
        byte[] bytes = (byte[])good.Clone();
        VolumeTree tree = new MemoryDisk(good).ReadVolume().Tree!;
        VolumeGeometry at = tree.Geometry;
        VolumeNode file = tree.Nodes.Where(node => node.Runs.Length > 0 && !node.IsDirectory).OrderBy(_ => random.Next()).First();
        VolumeNode other = tree.Nodes.Where(node => node.Runs.Length > 0 && node != file).OrderBy(_ => random.Next()).First();
        VolumeNode sub = tree.Nodes.Skip(1).Where(node => node.IsDirectory).OrderBy(_ => random.Next()).First();
        switch (random.Next(9))
        {
            case 0:
                what = "a bit of the first FAT";
                bytes[at.FatOffset + random.Next((int)Math.Min(at.FatLength, 120))] ^= (byte)(1 << random.Next(8));
                break;
            case 1:
                what = "two files in one cluster";
                EditedVolume.Set(bytes, at, file.Runs[^1].First + file.Runs[^1].Count - 1, other.FirstCluster);
                break;
            case 2:
                what = "a loop";
                EditedVolume.Set(bytes, at, file.Runs[^1].First + file.Runs[^1].Count - 1, file.FirstCluster);
                break;
            case 3:
                what = "a chain into nothing";
                EditedVolume.Set(bytes, at, file.FirstCluster, 0);
                break;
            case 4:
                what = "a lost chain";
                EditedVolume.Set(bytes, at, at.EndCluster - 1 - (uint)random.Next(5), uint.MaxValue);
                break;
            case 5:
                what = "a bit of a folder";
                bytes[at.OffsetOf(sub.FirstCluster) + random.Next(32 * 5)] ^= (byte)(1 << random.Next(8));
                break;
            case 6:
                what = "a bit of the root folder";
                long root = at.RootLength > 0 ? at.RootOffset : at.OffsetOf(at.RootCluster);
                bytes[root + random.Next(32 * 8)] ^= (byte)(1 << random.Next(8));
                break;
            case 7:
                what = "a chain through a bad cluster";
                EditedVolume.Set(bytes, at, file.FirstCluster, at.Type == FatType.Fat12 ? 0xff7u : 0xfff7u);
                break;
            default:
                what = "a bit of the boot sector";
                bytes[at.Offset + 11 + random.Next(28)] ^= (byte)(1 << random.Next(8));
                break;
        }

        return bytes;
    }

    private static void Fill(string directory, Random random)
    {
        foreach (string name in (string[])["a", "B.TXT", "a longer name.txt", "Ärger", "c.d.e"])
        {
            Directory.CreateDirectory(Path.Join(directory, "d-" + name));
            File.WriteAllBytes(Path.Join(directory, name), ApplyTests.TestBytes(random.Next(9000), random.Next()));
            File.WriteAllBytes(
                Path.Join(directory, "d-" + name, name), ApplyTests.TestBytes(random.Next(9000), random.Next()));
        }
    }
}
