using System.Buffers.Binary;
using System.IO.Compression;
using ImageMount.Formats.Tests.TwoLevel;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Qcow;

/// <summary>States and damages of version 1 that no peer makes on demand.</summary>
public sealed class QcowTests
{
    private const int Cluster = 4096;
    private const int Size = (8 * Cluster) - 100;
    private const int L2 = 4096;
    private const int Data = 8192;

    [Fact]
    public async Task Stored_and_compressed_clusters_at_odd_places_are_read_and_get_new_places_when_written()
    {
        byte[] image = Make(out byte[] expected);
        (Graph graph, MemoryDevice device) = await TwoLevelImages.OpenAsync("qcow", image);
        byte[] found = await TwoLevelImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(expected, found, 0, "as it is");
        await TwoLevelImages.AssertCleanAsync(graph.Root, "as it is");
        CheckReport report = await TwoLevelImages.CheckAsync(graph.Root);
        Assert.Equal((8L, 3L, 1L), (report.TotalClusters, report.AllocatedClusters, report.CompressedClusters));
        for (int cluster = 0; cluster < 8; cluster++)
        {
            byte[] bytes = TestPattern.Make(300, 0, cluster);
            bytes.CopyTo(expected, (cluster * Cluster) + 1111);
            await graph.Root.WriteAsync((cluster * Cluster) + 1111, bytes);
        }

        await graph.CloseAsync();
        (graph, _) = await TwoLevelImages.OpenAsync("qcow", device.Content, TestGraph.ReadOnly);
        await using Graph again = graph;
        found = await TwoLevelImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(expected, found, 0, "written");
        await TwoLevelImages.AssertCleanAsync(graph.Root, "written");
        Assert.Equal(0, (await TwoLevelImages.CheckAsync(graph.Root)).CompressedClusters);
    }

    [Fact]
    public async Task Zeroes_take_compressed_clusters_out_of_the_tables_but_not_over_a_parent()
    {
        byte[] image = Make(out byte[] expected);
        (Graph graph, _) = await TwoLevelImages.OpenAsync("qcow", (byte[])image.Clone());
        await using (graph)
        {
            await graph.Root.ZeroAsync(2 * Cluster, Cluster);
            Assert.Equal(ExtentFlags.Zero, (await graph.Root.MapAsync(2 * Cluster, Cluster)).Flags);
        }

        using var dir = new TempDir();
        OptionMap more = TwoLevelImages.WithParent(dir.Write("parent.raw", TestPattern.Make(Size, 0, 8)));
        (graph, _) = await TwoLevelImages.OpenAsync("qcow", image, null, more);
        await using Graph open = graph;
        await graph.Root.ZeroAsync(0, graph.Root.Length, ZeroFlags.MayUnmap);
        Assert.All(await TwoLevelImages.ReadAllAsync(graph.Root), value => Assert.Equal(0, value));
        await TwoLevelImages.AssertCleanAsync(graph.Root, "zeroed");
    }

    [Theory]
    [InlineData(0x8000_0000_0000_0000UL | 5UL << 51 | 100)] // The stream is too short.
    [InlineData(0x8000_0000_0000_0000UL | 5UL << 51 | 0xffff_0000UL)] // Outside the file.
    [InlineData(0x8000_0000_0000_0000UL | 100)] // No bytes at all.
    [InlineData(0x0000_7fff_0000_0000UL)]
    [InlineData(8193UL)]
    [InlineData(16UL)]
    public async Task Entry_that_is_wrong_is_an_error_for_reading_and_writing_there_only(ulong entry)
    {
        byte[] image = Make(out byte[] expected);
        Put64(image, L2 + 24, entry);
        (Graph graph, _) = await TwoLevelImages.OpenAsync("qcow", image);
        await using Graph open = graph;
        var e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.ReadAsync(3 * Cluster, new byte[10]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.WriteAsync(3 * Cluster, new byte[10]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        var bytes = new byte[3 * Cluster];
        await graph.Root.ReadAsync(0, bytes);
        Assert.True(bytes.AsSpan().SequenceEqual(expected.AsSpan(0, bytes.Length)));
    }

    [Fact]
    public async Task Cluster_over_a_table_is_reported_and_not_written()
    {
        byte[] image = Make(out _);
        Put64(image, L2 + 24, L2);
        byte[] before = (byte[])image.Clone();
        (Graph graph, MemoryDevice device) = await TwoLevelImages.OpenAsync("qcow", image);
        await using Graph open = graph;
        Assert.Equal(1, (await TwoLevelImages.CheckAsync(graph.Root)).Corruptions);
        var e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.WriteAsync(3 * Cluster, new byte[10]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        Assert.True(before.AsSpan().SequenceEqual(device.Content));
    }

    [Theory]
    [InlineData(7, 3, BlockErrorKind.NotSupported)]
    [InlineData(32, 8, BlockErrorKind.InvalidData)]
    [InlineData(32, 17, BlockErrorKind.InvalidData)]
    [InlineData(33, 5, BlockErrorKind.InvalidData)]
    [InlineData(33, 14, BlockErrorKind.InvalidData)]
    [InlineData(39, 2, BlockErrorKind.NotSupported)]
    [InlineData(46, 100, BlockErrorKind.InvalidData)] // L1 table outside the file.
    [InlineData(47, 47, BlockErrorKind.InvalidData)]
    [InlineData(24, 128, BlockErrorKind.InvalidData)]
    [InlineData(24, 1, BlockErrorKind.LimitExceeded)]
    public async Task Header_that_breaks_the_format_is_refused(int at, byte value, BlockErrorKind kind)
    {
        byte[] image = Make(out _);
        image[at] = value;
        var e = await Assert.ThrowsAsync<BlockException>(
            async () => await TwoLevelImages.OpenAsync("qcow", image, TestGraph.ReadOnly));
        Assert.Equal(kind, e.Kind);
        Assert.NotNull(e.Offset);
    }

    [Theory]
    [InlineData(1, "qcow")]
    [InlineData(2, "qcow2")]
    [InlineData(3, "qcow2")]
    public void Version_decides_which_driver_takes_it(byte version, string driver)
    {
        byte[] head = new byte[512];
        new byte[] { (byte)'Q', (byte)'F', (byte)'I', 0xfb, 0, 0, 0, version }.CopyTo(head, 0);
        Assert.Equal(driver, TestGraph.Registry.Probe(new ProbeInput(head, head, 512, "x"))?.Name);
    }

    [SkippableFact]
    public async Task New_child_reads_through_its_parent_as_qemu_does()
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make((1 << 20) + 512, 0, 1);
        Qemu.Img("convert", "-f", "raw", "-O", "qcow2", dir.Write("content", content), dir.File("parent"));
        string path = dir.File("child.qcow");
        await new ImageMaker(TestGraph.Registry).CreateAsync(
            "qcow", path, TestGraph.Parser.ParseImageOptions("backing_file=parent,backing_fmt=qcow2"), new CreateRequest());
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            Assert.Equal(512, (await graph.Root.DescribeAsync()).ClusterSize);
            await graph.Root.WriteAsync(100_000, new byte[1000]);
            content.AsSpan(100_000, 1000).Clear();
            byte[] found = await TwoLevelImages.ReadAllAsync(graph.Root);
            TestPattern.AssertEqual(content, found, 0, "we");
        }

        string raw = dir.File("by-peer");
        Qemu.Img("convert", "-f", "qcow", "-O", "raw", path, raw);
        TestPattern.AssertEqual(content, File.ReadAllBytes(raw), 0, "peer");
    }

    [Fact]
    public async Task Encrypted_cluster_that_is_cut_off_is_an_error_and_never_zeroes()
    {
        TwoLevelLayout layout = TwoLevelImages.Layouts["qcow-aes-4k"];
        byte[] image = await TwoLevelImages.WriteAsync(
            "qcow", await layout.CreateAsync(Cluster), 0, TestPattern.Make(Cluster, 0, 1));
        (Graph graph, MemoryDevice device) = await TwoLevelImages.OpenAsync("qcow", image[..^1000]);
        await using Graph open = graph;
        await graph.Root.ReadAsync(0, new byte[3072 - 512]);
        foreach (Func<ValueTask> request in (Func<ValueTask>[])
            [() => graph.Root.ReadAsync(3072, new byte[512]), () => graph.Root.WriteAsync(3584, new byte[512])])
        {
            var e = await Assert.ThrowsAsync<BlockException>(async () => await request());
            Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        }

        Assert.Equal(image.Length - 1000, device.Length);
    }

    [Fact]
    public async Task Zeroes_and_discards_of_an_encrypted_disk_are_never_bare_zeroes_in_the_file()
    {
        TwoLevelLayout layout = TwoLevelImages.Layouts["qcow-aes-4k"];
        byte[] content = TestPattern.Make(4 * Cluster, 0, 1);
        byte[] image = await TwoLevelImages.WriteAsync("qcow", await layout.CreateAsync(content.Length), 0, content);
        (Graph graph, _) = await TwoLevelImages.OpenAsync("qcow", image);
        await using Graph open = graph;
        await graph.Root.DiscardAsync(0, Cluster);
        await graph.Root.ZeroAsync(Cluster, Cluster + 512, ZeroFlags.MayUnmap);
        content.AsSpan(Cluster, Cluster + 512).Clear();
        byte[] found = await TwoLevelImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(content, found, 0, "disk");
    }

    [Fact]
    public async Task Encrypted_image_without_its_passphrase_shows_its_metadata_only()
    {
        using var dir = new TempDir();
        string path = dir.File("disk.qcow");
        await LuksImages.CreateAsync(path, "qcow", "encryption=on", TestPattern.Make(1 << 20, 0, 1));
        await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(path));
        await using Graph graph = await TestGraph.OpenAsync(path, new OpenFlags { AllowLocked = true });
        Assert.True((await graph.Root.DescribeAsync()).Encrypted);
        await TwoLevelImages.AssertCleanAsync(graph.Root, "locked");
        var e = await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.ReadAsync(0, new byte[512]));
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
    }

    /// <summary>
    /// Cluster 0 stored at its place, 1 stored on a sector that no cluster begins on, 2 compressed across a border.
    /// </summary>
    private static byte[] Make(out byte[] expected)
    {
        expected = new byte[Size];
        TestPattern.Make(2 * Cluster, 0, 5).CopyTo(expected, 0);
        for (int i = 2 * Cluster; i < 3 * Cluster; i++)
        {
            expected[i] = (byte)(i / 77);
        }

        var stream = new MemoryStream();
        using (var deflate = new DeflateStream(stream, CompressionLevel.Optimal, leaveOpen: true))
        {
            deflate.Write(expected.AsSpan(2 * Cluster, Cluster));
        }

        byte[] pressed = stream.ToArray();
        Assert.InRange(pressed.Length, 10, 2000);
        var image = new byte[(6 * Cluster) + 512];
        BinaryPrimitives.WriteUInt32BigEndian(image, 0x514649fb);
        image[7] = 1;
        Put64(image, 24, Size);
        image[32] = 12;
        image[33] = 9;
        Put64(image, 40, 48);
        Put64(image, 48, L2);
        Put64(image, L2, Data);
        Put64(image, L2 + 8, Data + Cluster + 512);
        int place = Data + (3 * Cluster) - 7;
        Put64(image, L2 + 16, 1UL << 63 | (ulong)pressed.Length << 51 | (uint)place);
        expected.AsSpan(0, Cluster).CopyTo(image.AsSpan(Data));
        expected.AsSpan(Cluster, Cluster).CopyTo(image.AsSpan(Data + Cluster + 512));
        pressed.CopyTo(image.AsSpan(place));
        return image;
    }

    private static void Put64(byte[] image, int at, ulong value) =>
        BinaryPrimitives.WriteUInt64BigEndian(image.AsSpan(at), value);
}
