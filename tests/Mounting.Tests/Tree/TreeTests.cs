using System.Text;
using ImageMount.Mounting.Tests.Partitions;
using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Tests.Tree;

public sealed class TreeTests
{
    private static readonly DiskFilePolicy Writable = new(ReadOnly: false, Growable: false, Discard: true);

    [Fact]
    public async Task A_partition_is_a_window_on_the_same_bytes()
    {
        DiskBuilder builder = Disk();
        MountTree tree = await MountTree.CreateAsync(builder.Node, new MountTreeOptions { Policy = Writable });
        DiskFile p1 = tree.DiskFiles[1];
        Assert.Equal(("p1", 10L * 512, 50L * 512), (p1.Name, p1.Offset, p1.Length));

        Assert.Equal(3, await p1.WriteAsync(7, new byte[] { 1, 2, 3 }, WriteFlags.None, default));
        Assert.Equal([1, 2, 3], builder.Bytes.AsSpan(10 * 512 + 7, 3).ToArray());
        var buffer = new byte[3];
        Assert.Equal(3, await tree.Disk.ReadAsync(10 * 512 + 7, buffer, default));
        Assert.Equal([1, 2, 3], buffer);
    }

    [Theory]
    [InlineData(0, 100, 100)]
    [InlineData(50 * 512 - 10, 100, 10)]
    [InlineData(50 * 512, 100, 0)]
    [InlineData(long.MaxValue, 100, 0)]
    [InlineData(-1, 100, 0)]
    public async Task Reads_and_writes_are_clamped_at_the_end_of_the_window(long offset, int count, int expected)
    {
        DiskBuilder builder = Disk();
        builder.Bytes.AsSpan(512).Fill(0x11);
        MountTree tree = await MountTree.CreateAsync(builder.Node, new MountTreeOptions { Policy = Writable });
        DiskFile p1 = tree.DiskFiles[1];

        Assert.Equal(expected, await p1.ReadAsync(offset, new byte[count], default));
        var data = new byte[count];
        data.AsSpan().Fill(0x22);
        Assert.Equal(expected, await p1.WriteAsync(offset, data, WriteFlags.None, default));
        Assert.False(builder.Bytes.AsSpan(60 * 512).Contains((byte)0x22), "a write left its partition");
    }

    [Fact]
    public async Task A_growable_disk_grows_with_writes_past_its_end_and_a_partition_does_not()
    {
        DiskBuilder builder = Disk();
        BlockNode node = builder.Node;
        MountTree tree = await MountTree.CreateAsync(
            node, new MountTreeOptions { Policy = Writable with { Growable = true } });

        Assert.Equal(4, await tree.Disk.WriteAsync(100_000, new byte[] { 1, 2, 3, 4 }, WriteFlags.None, default));
        Assert.Equal(100_352, node.Length); // whole sectors
        Assert.Equal(0, await tree.DiskFiles[1].WriteAsync(60 * 512, new byte[4], WriteFlags.None, default));
    }

    [Fact]
    public async Task Seeking_finds_data_and_holes_inside_the_window_only()
    {
        DiskBuilder builder = Disk();
        builder.Bytes.AsSpan(12 * 512, 512).Fill(1);
        builder.Bytes.AsSpan(70 * 512, 512).Fill(1);
        var device = new MemoryDevice(builder.Bytes) { Declared = BlockCapabilities.Write | BlockCapabilities.Map };
        MountTree tree = await MountTree.CreateAsync(
            new BlockNode("disk", "memory", device), new MountTreeOptions { Policy = Writable });
        DiskFile p1 = tree.DiskFiles[1];

        Assert.Equal(2 * 512, await p1.SeekAsync(0, wantData: true, default));
        Assert.Equal(3 * 512, await p1.SeekAsync(2 * 512, wantData: false, default));
        Assert.Equal(-1, await p1.SeekAsync(3 * 512, wantData: true, default));
        Assert.Equal(3 * 512 + 1, await p1.SeekAsync(3 * 512 + 1, wantData: false, default));
        Assert.Equal(-1, await p1.SeekAsync(50 * 512, wantData: false, default));
    }

    [Fact]
    public async Task On_a_file_there_is_the_disk_alone_and_its_table_is_not_read()
    {
        var device = new MemoryDevice(Disk().Bytes);
        MountTree tree = await MountTree.CreateAsync(
            new BlockNode("disk", "memory", device), new MountTreeOptions { IsSingleFile = true });
        Assert.Same(tree.Disk, tree.Root);
        Assert.Equal(1UL, tree.Root.Id);
        Assert.Equal(0, device.Count(TestOperation.Read));
    }

    [Fact]
    public async Task Nodes_are_found_by_number_and_by_name()
    {
        MountTree tree = await MountTree.CreateAsync(
            Disk().Node, new MountTreeOptions { Reports = [new("info.json", () => Pieces("x"))] });
        var root = (TreeDirectory)tree.Root;
        Assert.Equal(
            ["disk.raw", "p1", ".imgmount"], (await root.GetEntriesAsync(default)).Select(n => n.Name));
        for (ulong id = 1; id <= (ulong)tree.Count; id++)
        {
            Assert.Equal(id, tree.Find(id)!.Id);
        }

        Assert.Null(tree.Find(0));
        Assert.Null(tree.Find((ulong)tree.Count + 1));
        Assert.Null(tree.Find(ulong.MaxValue));
        Assert.Equal("p1", (await root.FindAsync("p1"u8.ToArray(), default))!.Name);
        Assert.Null(await root.FindAsync("p2"u8.ToArray(), default));
    }

    [Fact]
    public async Task Snapshots_are_opened_when_somebody_looks_and_only_once()
    {
        int opened = 0;
        var before = new DiskBuilder(200).Entry(0, 2, 0x83, 20, 5).Sign();
        MountTree tree = await MountTree.CreateAsync(
            Disk().Node,
            new MountTreeOptions
            {
                Policy = Writable,
                Snapshots = [Snapshot("1", "before")],
                OpenSnapshot = (_, _) =>
                {
                    opened++;
                    return new ValueTask<BlockNode>(before.Node);
                },
            });
        var snapshots = (TreeDirectory)(await ((TreeDirectory)tree.Root).FindAsync("snapshots"u8.ToArray(), default))!;
        var directory = (TreeDirectory)(await snapshots.GetEntriesAsync(default))[0];
        Assert.Equal(0, opened);

        IReadOnlyList<TreeNode> entries = await directory.GetEntriesAsync(default);
        Assert.Same(entries, await directory.GetEntriesAsync(default));
        Assert.Equal(1, opened);
        Assert.Equal(["disk.raw", "p3"], entries.Select(e => e.Name));
        Assert.All(entries, e => Assert.False(((DiskFile)e).CanWrite));
        Assert.Equal("snapshots/before/p3", entries[1].Path);
    }

    [Fact]
    public async Task A_snapshot_that_fails_to_open_is_tried_again()
    {
        int opened = 0;
        MountTree tree = await MountTree.CreateAsync(
            Disk().Node,
            new MountTreeOptions
            {
                Snapshots = [Snapshot("1", "s")],
                OpenSnapshot = (_, _) => ++opened == 1
                    ? throw new BlockException(BlockErrorKind.IoError, "not now")
                    : new ValueTask<BlockNode>(Disk().Node),
            });
        var snapshots = (TreeDirectory)(await ((TreeDirectory)tree.Root).FindAsync("snapshots"u8.ToArray(), default))!;
        var directory = (TreeDirectory)(await snapshots.GetEntriesAsync(default))[0];
        await Assert.ThrowsAsync<BlockException>(async () => await directory.GetEntriesAsync(default));
        Assert.Equal(2, (await directory.GetEntriesAsync(default)).Count);
    }

    [Fact]
    public async Task Snapshot_names_become_file_names_all_different()
    {
        string longName = new('ä', 300);
        string[] given = ["a", "a", "", ".", "..", "a/b", "a_b", "x\n\u001b[31m", longName, "a.2", "a"];
        MountTree tree = await MountTree.CreateAsync(
            Disk().Node,
            new MountTreeOptions
            {
                Snapshots = [.. given.Select((name, i) => Snapshot($"{i + 1}", name))],
                OpenSnapshot = (_, _) => throw new InvalidOperationException(),
            });
        var snapshots = (TreeDirectory)(await ((TreeDirectory)tree.Root).FindAsync("snapshots"u8.ToArray(), default))!;
        string[] names = [.. (await snapshots.GetEntriesAsync(default)).Select(e => e.Name)];

        Assert.Equal(names.Length, names.Distinct().Count());
        Assert.All(names, n => Assert.True(
            n.Length > 0 && n is not ("." or "..") && !n.Contains('/') && !n.Any(char.IsControl)
            && Encoding.UTF8.GetByteCount(n) <= 255, n));
        Assert.Equal(["a", "a.2", "3", "_.", "_..", "a_b", "a_b.7"], names[..7]);
    }

    [Fact]
    public async Task A_report_is_read_in_any_order_and_is_produced_in_pieces()
    {
        string text = string.Concat(Enumerable.Range(0, 1000).Select(i => $"line {i}\n"));
        int started = 0;
        async IAsyncEnumerable<ReadOnlyMemory<byte>> Source()
        {
            started++;
            for (int at = 0; at < text.Length; at += 100)
            {
                await Task.Yield();
                yield return Encoding.UTF8.GetBytes(text[at..Math.Min(at + 100, text.Length)]);
            }
        }

        await using var reader = new ReportReader(Source);
        (int, int)[] reads = [(0, 10), (10, 1000), (5000, 50), (20, 300), (8000, 5000), (9000, 10)];
        foreach ((int offset, int count) in reads)
        {
            var buffer = new byte[count];
            int read = await reader.ReadAsync(offset, buffer, default);
            int expected = Math.Clamp(text.Length - offset, 0, count);
            Assert.Equal(
                expected == 0 ? "" : text.Substring(offset, expected), Encoding.UTF8.GetString(buffer, 0, read));
        }

        Assert.Equal(2, started);
    }

    private static DiskBuilder Disk() => new DiskBuilder(100).Entry(0, 0, 0x83, 10, 50).Sign();

    private static SnapshotInfo Snapshot(string id, string name) =>
        new(id, name, 0, 0, DateTimeOffset.UnixEpoch, 0, null);

    private static async IAsyncEnumerable<ReadOnlyMemory<byte>> Pieces(string text)
    {
        await Task.CompletedTask;
        yield return Encoding.UTF8.GetBytes(text);
    }
}
