using System.Text;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Tar;

/// <summary>Archives made by hand and by GNU tar.</summary>
public sealed class TarTests
{
    private static readonly byte[] s_disk = TestPattern.Make(10_001, 0, 1);

    [Theory]
    [InlineData("readme.txt,disk.img", "disk.img")]
    [InlineData("appliance.ovf,appliance.mf,appliance-disk1.vmdk,drivers.iso", "appliance-disk1.vmdk")]
    [InlineData("a/b/notes,x.qcow2.xz", "x.qcow2.xz")]
    [InlineData("whatever", "whatever")]
    [InlineData("notes.txt,install.iso", "install.iso")]
    public async Task Only_disk_of_an_archive_is_found(string names, string expected)
    {
        using var dir = new TempDir();
        string path = dir.Write("a.tar", Archive([.. names.Split(',').Select(name => (name, Of(name, expected)))]));
        await using Graph graph = await OpenAsync(path);
        DeviceInfo info = await graph.Root.DescribeAsync();
        Assert.Equal(expected, info.FormatSpecific.Single(fact => fact.Key == "member").Value);
        await AssertDiskAsync(graph);
    }

    [Theory]
    [InlineData("a.vmdk,b.vmdk", "several disk images", "'a.vmdk', 'b.vmdk'")]
    [InlineData("a.txt,b.txt", "no file that looks like", "'a.txt', 'b.txt'")]
    [InlineData("", "no file that looks like", "-f raw")]
    public async Task Doubt_is_an_error_that_lists_the_files(string names, string what, string hint)
    {
        using var dir = new TempDir();
        string path = dir.Write("a.tar", Archive(
            [.. names.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(name => (name, s_disk))]));
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(path));
        Assert.Contains(what, e.Message, StringComparison.Ordinal);
        Assert.Contains(hint, e.Hint, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Member_is_chosen_by_name_and_the_last_of_one_name_counts()
    {
        using var dir = new TempDir();
        string path = dir.Write("a.tar", Archive(("./b.vmdk", [1, 2, 3]), ("a.vmdk", [4]), ("./b.vmdk", s_disk)));
        foreach (string name in (string[])["b.vmdk", "./b.vmdk"])
        {
            await using Graph graph = await OpenAsync(path, name);
            await AssertDiskAsync(graph);
        }

        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(path, "c.vmdk"));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
    }

    [Fact]
    public async Task Long_names_and_sizes_of_every_kind()
    {
        string longName = string.Join('/', Enumerable.Repeat("folder-with-a-long-name", 12)) + "/disk.img";
        byte[] pax = Encoding.UTF8.GetBytes(PaxRecord("path", longName) + PaxRecord("size", $"{s_disk.Length}"));
        byte[] gnu = [.. Encoding.UTF8.GetBytes(longName), 0];
        byte[] wrongSize = Header("short", 0, '0');
        byte[] binary = Header("disk.img", 0, '0');
        binary.AsSpan(124, 12).Clear();
        binary[124] = 0x80;
        binary[134] = (byte)(s_disk.Length >> 8);
        binary[135] = (byte)s_disk.Length;
        using var dir = new TempDir();
        foreach ((string name, byte[] archive) in ((string, byte[])[])
        [
            (longName, [.. Header("pax", pax.Length, 'x'), .. Padded(pax), .. wrongSize, .. Padded(s_disk),
                .. new byte[1024]]),
            (longName, [.. Header("././@LongLink", gnu.Length, 'L'), .. Padded(gnu),
                .. Header("cut", s_disk.Length, '0'), .. Padded(s_disk), .. new byte[1024]]),
            ("disk.img", [.. Sealed(binary), .. Padded(s_disk)]),
            ("disk.img", [.. Header("disk.img", s_disk.Length, '\0'), .. Padded(s_disk), .. new byte[1024]]),
        ])
        {
            await using Graph graph = await OpenAsync(dir.Write("a.tar", archive));
            DeviceInfo info = await graph.Root.DescribeAsync();
            Assert.Equal(name, info.FormatSpecific.Single(fact => fact.Key == "member").Value);
            await AssertDiskAsync(graph);
        }
    }

    [SkippableTheory]
    [InlineData("gnu")]
    [InlineData("posix")]
    public async Task Sparse_members_are_refused_by_name_and_do_not_hide_others(string format)
    {
        Require.Tool("tar");
        using var dir = new TempDir();
        string sparse = dir.WriteSparse("sparse.img", 40 << 20);
        using (FileStream file = File.OpenWrite(sparse))
        {
            for (int i = 0; i < 30; i++)
            {
                file.Position = i << 20;
                file.Write(s_disk.AsSpan(0, 4096));
            }
        }

        dir.Write("disk.img", s_disk);
        string path = Pack.Tar(
            dir.File("a.tar"), dir.Path, ["sparse.img", "disk.img"], "--sparse", $"--format={format}");
        await using (Graph graph = await OpenAsync(path, "disk.img"))
        {
            await AssertDiskAsync(graph);
        }

        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(path, "sparse.img"));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains("sparse", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Damage_is_refused_with_its_place()
    {
        using var dir = new TempDir();
        byte[] archive = Archive(("a.txt", [1, 2, 3]), ("disk.img", s_disk));
        byte[] damaged = (byte[])archive.Clone();
        damaged[1024 + 3] ^= 1; // the name in the second header
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await OpenAsync(dir.Write("a.tar", damaged)));
        Assert.Equal(1024, e.Offset);
        e = await Assert.ThrowsAsync<BlockException>(
            async () => await OpenAsync(dir.Write("a.tar", archive.AsSpan(0, 1536 + 10_000))));
        Assert.Contains("ends inside its member 'disk.img'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Archive_is_opened_in_place_through_other_wrappers()
    {
        using var dir = new TempDir();
        byte[] inner = Archive(("readme", [1]), ("disk.img.gz", Pack.Gzip(s_disk)));
        string path = dir.Write("a.tar.gz", Pack.Gzip(inner));
        await using Graph graph = await TestGraph.OpenAsync(path);
        Assert.Equal(["file", "gzip", "tar", "gzip", "raw"], graph.Nodes.Select(node => node.Driver));
        await AssertDiskAsync(graph);

        // tar named, the file is compressed: looked for behind that.
        await using Graph named = await OpenAsync(path);
        Assert.Equal(["file", "gzip", "tar"], named.Nodes.Select(node => node.Driver));
    }

    private static byte[] Of(string name, string expected) => name == expected ? s_disk : [1, 2, 3];

    private static ValueTask<Graph> OpenAsync(string path, string? member = null)
    {
        OptionMap map = TestGraph.ForFile(path, "tar");
        if (member is not null)
        {
            map.Set("member", member);
        }

        return TestGraph.Opener.OpenAsync(map, TestGraph.ReadOnly);
    }

    private static async Task AssertDiskAsync(Graph graph)
    {
        var found = new byte[graph.Root.Length];
        await graph.Root.ReadAsync(0, found);
        TestPattern.AssertEqual(s_disk, found, 0, "the member");
    }

    private static byte[] Archive(params (string Name, byte[] Content)[] members) =>
    [
        .. members.SelectMany(member => (byte[])
            [.. Header(member.Name, member.Content.Length, '0'), .. Padded(member.Content)]),
        .. new byte[1024],
    ];

    private static byte[] Padded(byte[] content) => [.. content, .. new byte[(512 - (content.Length % 512)) % 512]];

    private static string PaxRecord(string key, string value)
    {
        int length = key.Length + value.Length + 3;
        int digits = $"{length + 2}".Length;
        return $"{length + digits} {key}={value}\n";
    }

    private static byte[] Header(string name, long size, char type)
    {
        var block = new byte[512];
        Encoding.UTF8.GetBytes(name).AsSpan().CopyTo(block);
        Encoding.ASCII.GetBytes("0000644\0").CopyTo(block, 100);
        Encoding.ASCII.GetBytes(Convert.ToString(size, 8).PadLeft(11, '0')).CopyTo(block, 124);
        block[156] = (byte)type;
        "ustar\000"u8.CopyTo(block.AsSpan(257));
        block[263] = block[264] = (byte)'0';
        return Sealed(block);
    }

    private static byte[] Sealed(byte[] block)
    {
        block.AsSpan(148, 8).Fill((byte)' ');
        int sum = block.Sum(value => value);
        Encoding.ASCII.GetBytes($"{Convert.ToString(sum, 8).PadLeft(6, '0')}\0 ").CopyTo(block, 148);
        return block;
    }
}
