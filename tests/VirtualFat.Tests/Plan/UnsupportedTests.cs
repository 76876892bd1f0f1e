using System.Text;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;

namespace ImageMount.VirtualFat.Tests.Plan;

/// <summary>What FAT cannot hold, and what the user may say about it; names of folders on the command line.</summary>
public sealed class UnsupportedTests : IDisposable
{
    private readonly TempDir _dir = new();

    public UnsupportedTests()
    {
        foreach (string name in (string[])["good", "a:b", "a_b", "dot.", "Case", "case", "CASE", "x?y.txt"])
        {
            File.WriteAllText(_dir.File(name), name);
        }

        using var huge = File.OpenHandle(_dir.File("huge"), FileMode.CreateNew, FileAccess.Write);
        RandomAccess.SetLength(huge, uint.MaxValue + 1L);
        using var large = File.OpenHandle(_dir.File("large"), FileMode.CreateNew, FileAccess.Write);
        RandomAccess.SetLength(large, uint.MaxValue);
    }

    public void Dispose() => _dir.Dispose();

    [Fact]
    public void Skipped_by_default_and_told_by_path()
    {
        using TestDisk disk = TestDisk.Open(new VirtualFatOptions { Dir = _dir.Path });
        Assert.Equal(["CASE", "a_b", "good", "large"], Names(disk));
        Assert.Equal(6, disk.Warnings.Count);
        Assert.Contains(disk.Warnings, text => text.StartsWith("'a:b' has a character", StringComparison.Ordinal));
        Assert.Contains(disk.Warnings, text => text.StartsWith("'case' differs from 'CASE'", StringComparison.Ordinal));
        Assert.Contains(disk.Warnings, text => text.StartsWith("'huge' has 4294967296 bytes", StringComparison.Ordinal));
    }

    [Fact]
    public void Refused_as_a_whole_where_the_user_says_so()
    {
        BlockException e = Assert.Throws<BlockException>(() => TestDisk.Open(
            new VirtualFatOptions { Dir = _dir.Path, Unsupported = UnsupportedPolicy.Fail }));
        Assert.Contains("'a:b'", e.Message, StringComparison.Ordinal);
        Assert.Contains("'huge'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Renamed_where_the_user_says_so_and_good_names_stay()
    {
        using TestDisk disk = TestDisk.Open(
            new VirtualFatOptions { Dir = _dir.Path, Unsupported = UnsupportedPolicy.Rename });
        Assert.Equal(
            ["CASE", "Case (2)", "a_b", "a_b (2)", "case (3)", "dot_", "good", "large", "x_y.txt"], Names(disk));
        PlannedEntry renamed = disk.Plan.Entries.Single(entry => entry.LongName == "a_b (2)");
        Assert.Equal("a:b", renamed.HostName);
        byte[] bytes = disk.Read(disk.Geometry.ClusterOffset(renamed.FirstCluster), (int)renamed.Size);
        Assert.Equal("a:b", Encoding.UTF8.GetString(bytes));
    }

    [Fact]
    public void Names_that_are_no_text_are_told_and_can_be_read_under_another()
    {
        using var dir = new TempDir();
        Tool.Run("sh", "-c", $"printf x > \"{dir.Path}/$(printf 'a\\377b')\"");
        using TestDisk disk = TestDisk.Open(
            new VirtualFatOptions { Dir = dir.Path, Unsupported = UnsupportedPolicy.Rename });
        PlannedEntry entry = Assert.Single(disk.Plan.Entries.Skip(1));
        Assert.Equal("a\ufffdb", entry.LongName);
        Assert.Equal((byte)'x', disk.Read(disk.Geometry.ClusterOffset(entry.FirstCluster), 1)[0]);
        using TestDisk skipped = TestDisk.Open(new VirtualFatOptions { Dir = dir.Path });
        Assert.Single(skipped.Plan.Entries);

        // The runtime cannot remove what it cannot name.
        Tool.Run("sh", "-c", $"rm -f \"{dir.Path}\"/*");
    }

    [Fact]
    public void Many_are_counted_and_the_first_are_told()
    {
        using var dir = new TempDir();
        for (int i = 0; i < 50; i++)
        {
            File.WriteAllText(dir.File($"{i}:x"), "");
        }

        using TestDisk disk = TestDisk.Open(new VirtualFatOptions { Dir = dir.Path });
        Assert.Equal(21, disk.Warnings.Count);
        Assert.StartsWith("and 30 more", disk.Warnings[^1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("fat:/a/b", "dir=/a/b")]
    [InlineData("fat:rw:/a", "dir=/a rw=on")]
    [InlineData("fat:floppy:rw:12:/a", "dir=/a fat-type=12 floppy=on rw=on")]
    [InlineData("fat:32:floppy:a:b", "dir=a:b fat-type=32 floppy=on")]
    [InlineData("FAT:./rw:x", "dir=./rw:x")]
    public void Sources_are_understood(string uri, string options)
    {
        OptionMap map = new VirtualFatDriver().ParseUri(uri);
        Assert.Equal(options, string.Join(' ', map.Keys.Order().Select(key => $"{key}={map.Get(key)}")));
    }

    [Theory]
    [InlineData("fat:")]
    [InlineData("fat:rw:")]
    [InlineData("fat:rw:rw:/a")]
    [InlineData("fat:12:16:/a")]
    public void Sources_without_a_folder_are_refused(string uri) =>
        Assert.Equal(
            BlockErrorKind.InvalidArgument,
            Assert.Throws<BlockException>(() => new VirtualFatDriver().ParseUri(uri)).Kind);

    [Theory]
    [InlineData("a label", true)]
    [InlineData("12345678901", true)]
    [InlineData("", true)]
    [InlineData("123456789012", false)]
    [InlineData("a.b", false)]
    [InlineData("ä", false)]
    [InlineData(" a", false)]
    public void Labels_are_checked(string label, bool isGood)
    {
        Exception? e = Record.Exception(() => VolumeLabel.Parse(label));
        Assert.Equal(isGood, e is null);
        Assert.True(e is null or BlockException);
    }

    [Fact]
    public async Task A_disk_that_looks_like_an_image_is_raw_all_the_same()
    {
        using var dir = new TempDir();

        // A floppy's first file is not at its start; but no content may matter, whatever stands where.
        File.WriteAllBytes(dir.File("a.qcow2"), [.. "QFI\xfb"u8, .. new byte[5000]]);
        var registry = new DriverRegistry([new Everything(), new Formats.Raw.RawDriver(), new VirtualFatDriver()]);
        await using Graph graph = await new GraphOpener(registry).OpenAsync(
            new SourceParser(registry).Parse($"fat:{dir.Path}"), new OpenFlags());
        Assert.Equal("raw", graph.Root.Driver);
    }

    [Theory]
    [InlineData("/nonexistent/folder", BlockErrorKind.NotFound)]
    [InlineData("/etc/passwd", BlockErrorKind.NotFound)]
    public void Folders_that_are_none_are_told(string path, BlockErrorKind kind) =>
        Assert.Equal(
            kind, Assert.Throws<BlockException>(() => TestDisk.Open(new VirtualFatOptions { Dir = path })).Kind);

    private static string[] Names(TestDisk disk) =>
        [.. disk.Plan.Entries.Skip(1).Select(entry => entry.LongName).Order(StringComparer.Ordinal)];

    /// <summary>A format that sees itself in everything.</summary>
    private sealed class Everything : BlockDriver
    {
        public override string Name => "everything";

        public override DriverKind Kind => DriverKind.Format;

        public override string Summary => "";

        public override Type OptionsType => typeof(VirtualFatOptions);

        public override int Probe(in ProbeInput input) => 100;

        public override ValueTask<BlockDevice> OpenAsync(
            OpenContext context, object options, CancellationToken cancellationToken) =>
            throw new InvalidOperationException("probed");
    }
}
