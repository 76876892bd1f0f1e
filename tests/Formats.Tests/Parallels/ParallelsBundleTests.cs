using ImageMount.Formats.Tests.BlockTables;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Parallels;

/// <summary>Bundles: a descriptor, parts of the disk in files of their own, and layers of snapshots.</summary>
public sealed class ParallelsBundleTests
{
    private const int Cluster = 63 * 512;
    private const int First = 5 * Cluster; // The first part ends with a cluster, the second inside one.
    private const int Second = (3 * Cluster) + 2048;
    private const int Size = First + Second;

    private static readonly Guid s_base = new("11111111-0000-0000-0000-000000000001");
    private static readonly Guid s_middle = new("11111111-0000-0000-0000-000000000002");
    private static readonly Guid s_top = new("5fbaabe3-6958-40ff-92a7-860e329aab41");

    [Fact]
    public async Task Current_layer_and_snapshots_are_each_what_their_chain_says()
    {
        using var dir = new TempDir();
        Contents contents = Make(dir);
        await using Graph graph = await TestGraph.OpenAsync(dir.File("DiskDescriptor.xml"));
        Assert.Equal("parallels", graph.Root.Driver);
        await FlatTableImages.AssertContentAsync(graph.Root, contents.Top, "current");
        Assert.Equal(2, graph.Snapshots.Count);
        await FlatTableImages.AssertContentAsync(
            await graph.OpenSnapshotAsync(s_middle.ToString("B")), contents.Middle, "middle");
        await FlatTableImages.AssertContentAsync(
            await graph.OpenSnapshotAsync(s_base.ToString("B")), contents.Base, "base");
        await FlatTableImages.AssertCleanAsync(graph, "bundle");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Writing_changes_the_current_layer_only(int seed)
    {
        using var dir = new TempDir();
        Contents contents = Make(dir);
        byte[] expected = contents.Top;
        string[] others =
            [.. Directory.GetFiles(dir.Path).Where(file => !file.Contains("top", StringComparison.Ordinal))];
        byte[][] before = [.. others.Select(File.ReadAllBytes)];
        var random = new Random(seed);
        await using (Graph graph = await TestGraph.OpenAsync(dir.File("DiskDescriptor.xml"), TestGraph.Writable))
        {
            for (int i = 0; i < 60; i++)
            {
                int count = random.Next(1, 50_000);
                int at = random.Next(0, Size - count + 1);
                TestPattern.Fill(expected.AsSpan(at, count), at, i);
                if (random.Next(4) == 0)
                {
                    expected.AsSpan(at, count).Clear();
                    await graph.Root.ZeroAsync(at, count, ZeroFlags.MayUnmap);
                }
                else
                {
                    await graph.Root.WriteAsync(at, expected.AsMemory(at, count));
                }
            }

            await FlatTableImages.AssertContentAsync(graph.Root, expected, $"seed {seed}, written");
            await FlatTableImages.AssertContentAsync(
                await graph.OpenSnapshotAsync(s_middle.ToString("B")), contents.Middle, $"seed {seed}, snapshot");
        }

        await using Graph again = await TestGraph.OpenAsync(dir.File("DiskDescriptor.xml"));
        await FlatTableImages.AssertContentAsync(again.Root, expected, $"seed {seed}, again");
        await FlatTableImages.AssertCleanAsync(again, $"seed {seed}");
        for (int i = 0; i < others.Length; i++)
        {
            Assert.Equal(before[i], File.ReadAllBytes(others[i]));
        }
    }

    [Theory]
    [InlineData("base-2", "../base-2", BlockErrorKind.PermissionDenied)]
    [InlineData("base-2", "absent", BlockErrorKind.NotFound)]
    [InlineData("<Start>0</Start>", "<Start>1</Start>", BlockErrorKind.InvalidData)]
    [InlineData(
        "<Parallels_disk_image ", "<!DOCTYPE x [<!ENTITY a \"b\">]><Parallels_disk_image ", BlockErrorKind.InvalidData)]
    [InlineData("<Padding>0<", "<Padding>8<", BlockErrorKind.NotSupported)]
    [InlineData(
        "{11111111-0000-0000-0000-000000000002}</GUID><ParentGUID>{11111111-0000-0000-0000-000000000001}",
        "{11111111-0000-0000-0000-000000000002}</GUID><ParentGUID>{5fbaabe3-6958-40ff-92a7-860e329aab41}",
        BlockErrorKind.InvalidData)]
    [InlineData("<Engine>{00000000", "<Engine>{00000001", BlockErrorKind.NotSupported)]
    [InlineData("</Parallels_disk_image>", "", BlockErrorKind.InvalidData)]
    public async Task Descriptor_that_lies_is_refused(string what, string with, BlockErrorKind kind)
    {
        using var outer = new TempDir();
        using var dir = new TempDir(outer, "bundle");
        Make(dir);
        string path = dir.File("DiskDescriptor.xml");
        string text = File.ReadAllText(path);
        Assert.Contains(what, text, StringComparison.Ordinal);
        File.WriteAllText(path, text.Replace(what, with, StringComparison.Ordinal));
        File.Copy(dir.File("base-2"), outer.File("base-2"));
        var e = await Assert.ThrowsAsync<BlockException>(async () =>
            await TestGraph.Opener.OpenAsync(TestGraph.ForFile(path, "parallels"), TestGraph.ReadOnly));
        Assert.Equal(kind, e.Kind);
    }

    /// <summary>Writes a bundle of three layers; returns what each holds.</summary>
    internal static Contents Make(TempDir dir)
    {
        byte[] disk = TestPattern.Make(Size, 0, 1);
        disk.AsSpan(2 * Cluster, Cluster).Clear();
        byte[] first = disk[..First];
        dir.Write("base-1", new ParallelsByHand { Size = First, Order = [3, 0, 4, 1] }.Build(first));
        dir.Write("base-2", disk.AsSpan(First)); // A plain file.
        var contents = new Contents { Base = (byte[])disk.Clone() };

        Change(dir, disk, "middle-1", 0, First, [4, 2], isVersion2: true);
        Change(dir, disk, "middle-2", First, Second, [1], isVersion2: false);
        contents = contents with { Middle = (byte[])disk.Clone() };
        Change(dir, disk, "top-1", 0, First, [], isVersion2: true);
        Change(dir, disk, "top-2", First, Second, [3, 0], isVersion2: true);
        File.WriteAllText(dir.File("DiskDescriptor.xml"), Descriptor());
        return contents with { Top = disk };
    }

    /// <summary>A layer with new bytes in some clusters.</summary>
    private static void Change(
        TempDir dir, byte[] disk, string name, int start, int length, int[] order, bool isVersion2)
    {
        foreach (int cluster in order)
        {
            int at = cluster * Cluster;
            int count = Math.Min(Cluster, length - at);
            TestPattern.Fill(disk.AsSpan(start + at, count), start + at, name.Length + cluster + start);
        }

        dir.Write(name, new ParallelsByHand { Size = length, Order = order, IsVersion2 = isVersion2 }
            .Build(disk.AsSpan(start, length)));
    }

    private static string Descriptor() => $"""
        <?xml version='1.0' encoding='UTF-8'?>
        <Parallels_disk_image Version="1.0">
          <Disk_Parameters>
            <Disk_size>{Size / 512}</Disk_size><Padding>0</Padding>
            <Encryption><Engine>{Guid.Empty:B}</Engine><Data></Data></Encryption>
          </Disk_Parameters>
          <StorageData>
            <Storage><Start>0</Start><End>{First / 512}</End><Blocksize>63</Blocksize>
              {Image(s_base, "Compressed", "base-1")}{Image(s_middle, "Compressed", "middle-1")}
              {Image(s_top, "Compressed", "top-1")}
            </Storage>
            <Storage><Start>{First / 512}</Start><End>{Size / 512}</End><Blocksize>63</Blocksize>
              {Image(s_base, "Plain", "base-2")}{Image(s_middle, "Compressed", "middle-2")}
              {Image(s_top, "Compressed", "top-2")}
            </Storage>
          </StorageData>
          <Snapshots>
            <Shot><GUID>{s_top:B}</GUID><ParentGUID>{s_middle:B}</ParentGUID></Shot>
            <Shot><GUID>{s_middle:B}</GUID><ParentGUID>{s_base:B}</ParentGUID></Shot>
            <Shot><GUID>{s_base:B}</GUID><ParentGUID>{Guid.Empty:B}</ParentGUID></Shot>
          </Snapshots>
        </Parallels_disk_image>
        """;

    private static string Image(Guid id, string type, string file) =>
        $"<Image><GUID>{id:B}</GUID><Type>{type}</Type><File>{file}</File></Image>";

    internal sealed record Contents
    {
        public byte[] Base { get; init; } = [];

        public byte[] Middle { get; init; } = [];

        public byte[] Top { get; init; } = [];
    }
}
