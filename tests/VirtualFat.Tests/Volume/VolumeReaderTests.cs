using System.Diagnostics;
using ImageMount.VirtualFat.Volume;
using Xunit.Abstractions;

namespace ImageMount.VirtualFat.Tests.Volume;

/// <summary>Volumes of mkfs.fat and mtools are read; damaged ones are not believed.</summary>
public sealed class VolumeReaderTests(ITestOutputHelper output)
{
    [SkippableTheory]
    [InlineData(1440, "-F", "12")]
    [InlineData(9_000, "-F", "16", "-s", "4")]
    [InlineData(36_000, "-F", "32", "-s", "1")]
    public void A_good_volume(int kibibytes, params string[] options)
    {
        using var dir = new TempDir();
        byte[] bytes = Make(dir, kibibytes, options);
        VolumeReading reading = new MemoryDisk(bytes).ReadVolume();
        Assert.True(reading.IsConsistent, reading.Findings.ToString());
        VolumeTree tree = reading.Tree!;
        Assert.Equal("LABELLED", tree.Label);
        string[] paths =
            [.. Enumerable.Range(1, tree.Nodes.Count - 1).Select(tree.PathOf).Order(StringComparer.Ordinal)];
        Assert.Equal(
            [
                "SHORT.TXT", "a folder", "a folder/deep", "a folder/deep/Ünïcode name.txt", "big.bin", "empty",
                "lower.txt",
            ],
            paths);
        Assert.Equal(100_000u, tree.Nodes.Single(node => node.Name == "big.bin").Size);
    }

    [SkippableFact]
    public void What_is_wrong_is_found()
    {
        using var dir = new TempDir();
        byte[] good = Make(dir, 1440, ["-F", "12"]);
        VolumeTree tree = new MemoryDisk(good).ReadVolume().Tree!;
        VolumeGeometry at = tree.Geometry;
        VolumeNode big = tree.Nodes.Single(node => node.Name == "big.bin");
        VolumeNode folder = tree.Nodes.Single(node => node.Name == "a folder");
        VolumeNode deep = tree.Nodes.Single(node => node.Name == "deep");
        uint first = big.FirstCluster;
        Expect(FindingKind.Geometry, good, bytes => bytes[510] = 0);
        Expect(FindingKind.Geometry, good, bytes => bytes[11] = 3);
        Expect(FindingKind.Geometry, good, bytes => bytes[at.FatOffset] ^= 0xff);
        Expect(FindingKind.Dirty, good, bytes => bytes[37] |= 1);
        Expect(FindingKind.FatsDiffer, good, bytes => bytes[at.FatOffset + at.FatLength + 3000] ^= 1);
        Expect(FindingKind.Lost, good, bytes => SetBoth(bytes, at, 2500, 0xfff));
        Expect(FindingKind.Chain, good, bytes => SetBoth(bytes, at, first + 3, first));
        Expect(FindingKind.Chain, good, bytes => SetBoth(bytes, at, first + 3, folder.FirstCluster));
        Expect(FindingKind.Chain, good, bytes => SetBoth(bytes, at, first + 3, 0));
        Expect(FindingKind.Chain, good, bytes => SetBoth(bytes, at, first + 3, 0xff7));
        Expect(FindingKind.Chain, good, bytes => SetBoth(bytes, at, first + 3, 0xfff));
        Expect(FindingKind.Chain, good, bytes => SetBoth(bytes, at, first + 3, 0xff0));
        Expect(FindingKind.Chain, good, bytes => SetBoth(bytes, at, first + 3, 1));
        Expect(FindingKind.Entry, good, bytes => bytes[at.OffsetOf(deep.FirstCluster) + 26] ^= 1);
        Expect(FindingKind.Entry, good, bytes => bytes[at.OffsetOf(deep.FirstCluster) + 32 + 26] ^= 1);
        Expect(FindingKind.Entry, good, bytes => bytes[at.OffsetOf(deep.FirstCluster)] = 0);
        int entry = (int)Find(good, "BIG     BIN"u8);
        Expect(FindingKind.Entry, good, bytes => bytes[entry + 26] = bytes[entry + 27] = 0);
        Expect(FindingKind.Chain, good, bytes => bytes[entry + 30] ^= 1);
        Expect(FindingKind.Name, good, bytes => bytes[entry] = (byte)'+');
        Expect(FindingKind.Name, good, bytes => "SHORT   TXT"u8.CopyTo(bytes.AsSpan(entry)));
        int longName = (int)at.OffsetOf(deep.FirstCluster) + 64;
        Expect(FindingKind.Name, good, bytes => bytes[longName + 13] ^= 1);
        Expect(FindingKind.Name, good, bytes => bytes[longName] ^= 0x40);
        Expect(FindingKind.Name, good, bytes => bytes[longName] = 0xe5);
        Expect(FindingKind.Name, good, bytes => bytes[longName + 1] = (byte)'/');
        Expect(FindingKind.Name, good, bytes => bytes[longName + 12] = 4);
        Expect(FindingKind.Name, good, bytes => bytes[longName + 26] = 1);
    }

    [SkippableFact]
    public void Marks_of_a_volume_in_use_are_seen()
    {
        using var dir = new TempDir();
        byte[] good = Make(dir, 36_000, ["-F", "32", "-s", "1"]);
        long fat = new MemoryDisk(good).ReadVolume().Tree!.Geometry.FatOffset;
        Expect(FindingKind.Dirty, good, bytes => bytes[fat + 7] &= 0xf7);
        Expect(FindingKind.Dirty, good, bytes => bytes[fat + 7] &= 0xfb);
        Expect(FindingKind.Dirty, good, bytes => bytes[65] |= 1);
    }

    [SkippableTheory]
    [InlineData(1440, "-F", "12")]
    [InlineData(9_000, "-F", "16", "-s", "4")]
    [InlineData(36_000, "-F", "32", "-s", "1")]
    public void Hostile_volumes_cost_little_and_throw_nothing_else(int kibibytes, params string[] options)
    {
        const int Seed = 20261126;
        output.WriteLine($"seed {Seed}");
        var random = new Random(Seed);
        using var dir = new TempDir();
        byte[] good = Make(dir, kibibytes, options);
        VolumeTree tree = new MemoryDisk(good).ReadVolume().Tree!;
        (long From, long Count)[] places =
        [
            (0, 96), (tree.Geometry.FatOffset, 600), (tree.Geometry.FatOffset + tree.Geometry.FatLength, 600),
            (tree.Geometry.RootLength > 0 ? tree.Geometry.RootOffset : tree.Geometry.DataOffset, 512),
            (tree.Geometry.OffsetOf(tree.Nodes.First(node => node.Name == "deep").FirstCluster), 256),
        ];
        byte[] extremes = [0, 1, 0x7f, 0x80, 0xff, 0xfe, 0xe5, 0x2e];
        var clock = Stopwatch.StartNew();
        int consistent = 0;
        for (int i = 0; i < 800 && clock.Elapsed < TimeSpan.FromSeconds(2); i++)
        {
            var undo = new List<(long At, byte Value)>();
            for (int k = random.Next(1, 6); k > 0; k--)
            {
                (long from, long count) = places[random.Next(places.Length)];
                long at = from + random.NextInt64(count);
                for (int n = random.Next(1, 5); n > 0 && at < good.Length; n--, at++)
                {
                    undo.Add((at, good[at]));
                    good[at] = random.Next(2) == 0 ? extremes[random.Next(extremes.Length)] : (byte)random.Next(256);
                }
            }

            consistent += new MemoryDisk(good).ReadVolume().IsConsistent ? 1 : 0;
            for (int u = undo.Count - 1; u >= 0; u--)
            {
                good[undo[u].At] = undo[u].Value;
            }
        }

        output.WriteLine($"{consistent} were still consistent, in {clock.ElapsedMilliseconds} ms");
        Assert.True(new MemoryDisk(good).ReadVolume().IsConsistent);
    }

    [Fact]
    public void Nothing_is_read_of_what_is_no_volume()
    {
        foreach (int length in (int[])[0, 1, 511, 512, 4096])
        {
            byte[] bytes = new byte[length];
            Assert.False(new MemoryDisk(bytes).ReadVolume().IsConsistent);
            Array.Fill(bytes, (byte)0xff);
            Assert.False(new MemoryDisk(bytes).ReadVolume().IsConsistent);
        }
    }

    private static byte[] Make(TempDir dir, int kibibytes, string[] options)
    {
        string image = dir.File("disk");
        Mtools.Format(image, kibibytes, ["-n", "LABELLED", .. options]);
        string text = dir.Write("Ünïcode name.txt", "text"u8);
        string empty = dir.Write("empty", []);
        string big = dir.Write("big.bin", ApplyBytes(100_000));
        Mtools.On(image, "mmd", "::a folder", "::a folder/deep");
        Mtools.On(image, "mcopy", text, "::a folder/deep/");
        Mtools.On(image, "mcopy", text, "::SHORT.TXT");
        Mtools.On(image, "mcopy", text, "::lower.txt");
        Mtools.On(image, "mcopy", empty, "::empty");
        Mtools.On(image, "mcopy", big, "::big.bin");
        return File.ReadAllBytes(image);
    }

    private static byte[] ApplyBytes(int count)
    {
        byte[] bytes = new byte[count];
        new Random(7).NextBytes(bytes);
        return bytes;
    }

    private static long Find(byte[] bytes, ReadOnlySpan<byte> what)
    {
        int at = bytes.AsSpan().IndexOf(what);
        Assert.True(at > 0);
        return at;
    }

    private static void SetBoth(byte[] bytes, VolumeGeometry at, uint cluster, uint value)
    {
        for (int copy = 0; copy < 2; copy++)
        {
            long offset = at.FatOffset + copy * at.FatLength + cluster + cluster / 2;
            if (cluster % 2 == 0)
            {
                bytes[offset] = (byte)value;
                bytes[offset + 1] = (byte)((bytes[offset + 1] & 0xf0u) | value >> 8);
            }
            else
            {
                bytes[offset] = (byte)((bytes[offset] & 0x0fu) | value << 4);
                bytes[offset + 1] = (byte)(value >> 4);
            }
        }
    }

    private static void Expect(FindingKind kind, byte[] good, Action<byte[]> damage)
    {
        byte[] bytes = (byte[])good.Clone();
        damage(bytes);
        VolumeReading reading = new MemoryDisk(bytes).ReadVolume();
        Assert.False(reading.IsConsistent);
        Assert.True(reading.Findings.Kept.Any(finding => finding.Kind == kind), $"{kind}: {reading.Findings}");
    }
}
