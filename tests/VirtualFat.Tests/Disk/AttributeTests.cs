using System.Globalization;
using ImageMount.Interop;

namespace ImageMount.VirtualFat.Tests.Disk;

/// <summary>Attributes and times of the host's files as peers see them on the disk.</summary>
public sealed class AttributeTests
{
    [SkippableFact]
    public void Attributes_follow_from_permissions_and_names()
    {
        using var dir = new TempDir();
        string root = Directory.CreateDirectory(dir.File("folder")).FullName;
        Make(root, "plain.txt", "644");
        Make(root, "locked.txt", "444");
        Make(root, ".hidden", "600");
        Make(root, ".both", "400");
        Make(root, "others may write.txt", "422");
        Directory.CreateDirectory(Path.Join(root, "folder"));
        Directory.CreateDirectory(Path.Join(root, ".folder"));
        Mtools.Run("chmod", "555", Path.Join(root, "folder"));
        string volume = Write(dir, root, out _);
        Assert.Equal("A", Attributes(volume, "plain.txt"));
        Assert.Equal("AR", Attributes(volume, "locked.txt"));
        Assert.Equal("AH", Attributes(volume, ".hidden"));
        Assert.Equal("AHR", Attributes(volume, ".both"));
        Assert.Equal("AR", Attributes(volume, "others may write.txt"));
        Assert.Equal("D", Attributes(volume, "folder"));
        Assert.Equal("DH", Attributes(volume, ".folder"));
    }

    /// <summary>Writing in 2 s, reading in days, creation in 10 ms; what cannot be said becomes the nearest that can.</summary>
    [SkippableTheory]
    [InlineData("2001-02-03T04:05:06.789Z", 2001, 2, 3, 4, 5, 6)]
    [InlineData("2024-02-29T23:59:59.999Z", 2024, 2, 29, 23, 59, 58)]
    [InlineData("1980-01-01T00:00:01Z", 1980, 1, 1, 0, 0, 0)]
    [InlineData("1970-01-01T00:00:00Z", 1980, 1, 1, 0, 0, 0)]
    [InlineData("2107-12-31T23:59:58Z", 2107, 12, 31, 23, 59, 58)]
    [InlineData("2200-06-07T08:09:10Z", 2107, 12, 31, 23, 59, 58)]
    public void Times(string written, int year, int month, int day, int hour, int minute, int second)
    {
        using var dir = new TempDir();
        string root = Directory.CreateDirectory(dir.File("folder")).FullName;
        string path = Make(root, "a.txt", "644");
        DateTime time = DateTime.Parse(written, CultureInfo.InvariantCulture, DateTimeStyles.AdjustToUniversal);
        File.SetLastAccessTimeUtc(path, new DateTime(2011, 12, 13, 14, 15, 16, DateTimeKind.Utc));
        File.SetLastWriteTimeUtc(path, time);
        string volume = Write(dir, root, out byte[] bytes);
        Assert.Contains(
            string.Create(CultureInfo.InvariantCulture, $"{year:d4}-{month:d2}-{day:d2}"),
            Mtools.Run("mdir", "-i", volume, "::a.txt"), StringComparison.Ordinal);
        Mtools.On(volume, "mcopy", "-m", "-n", "::a.txt", dir.File("copy"));
        if (year < 2100)
        {
            // mtools takes 2100 for a leap year, as many do.
            Assert.Equal(
                new DateTime(year, month, day, hour, minute, second, DateTimeKind.Utc),
                File.GetLastWriteTimeUtc(dir.File("copy")));
        }

        ReadOnlySpan<byte> entry = bytes.AsSpan(bytes.AsSpan().IndexOf("A       TXT"u8), 32);
        Assert.Equal(((year - 1980) << 9) + (month << 5) + day, entry[24] | entry[25] << 8);
        Assert.Equal((hour << 11) + (minute << 5) + second / 2, entry[22] | entry[23] << 8);
        Assert.Equal(((2011 - 1980) << 9) + (12 << 5) + 13, entry[18] | entry[19] << 8);
        Assert.Equal(0, Stat.TryGet(path, out StatInfo info));
        DateTime made = DateTime.UnixEpoch.AddTicks((info.CreatedNs ?? info.ModifiedNs) / 100);
        if (info.CreatedNs is not null)
        {
            Assert.Equal(((made.Year - 1980) << 9) + (made.Month << 5) + made.Day, entry[16] | entry[17] << 8);
            Assert.Equal((made.Hour << 11) + (made.Minute << 5) + made.Second / 2, entry[14] | entry[15] << 8);
            Assert.Equal(made.Second % 2 * 100 + made.Millisecond / 10, entry[13]);
        }
    }

    private static string Make(string root, string name, string mode)
    {
        string path = Path.Join(root, name);
        File.WriteAllText(path, name);
        Mtools.Run("chmod", mode, path);
        return path;
    }

    private static string Write(TempDir dir, string root, out byte[] bytes)
    {
        using TestDisk disk = TestDisk.Open(new VirtualFatOptions { Dir = root, Floppy = true });
        bytes = disk.ReadAll(new Random(1));
        return dir.Write("floppy", bytes);
    }

    /// <summary>The letters of mattrib, and D for a folder, which its list of folders alone shows.</summary>
    private static string Attributes(string volume, string name)
    {
        string line = Mtools.Run("mattrib", "-i", volume, $"::{name}").Split('\n')[0];
        string letters = new([.. line[..line.IndexOf("::", StringComparison.Ordinal)].Where(char.IsAsciiLetterUpper).Order()]);
        bool isFolder = Mtools.Run("mdir", "-b", "-a", "-i", volume, "::").Split('\n').Contains($"::/{name}/");
        return isFolder && !letters.Contains('D') ? string.Concat(("D" + letters).Order()) : letters;
    }
}
