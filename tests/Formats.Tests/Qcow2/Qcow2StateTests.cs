using System.Buffers.Binary;
using ImageMount.Formats.Qcow2;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Qcow2;

/// <summary>Feature bits, bitmaps, damage, and what opening for writing does and does not change.</summary>
public sealed class Qcow2StateTests
{
    [Fact]
    public async Task Image_opened_for_writing_but_not_written_stays_as_it_was()
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions(), 10 << 20);
        byte[] before = [.. image];
        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        await Qcow2Images.ReadAllAsync(graph.Root);
        await graph.Root.FlushAsync();
        await graph.CloseAsync();
        Assert.True(before.AsSpan().SequenceEqual(device.Content));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Dirty_image_has_its_counts_rebuilt_before_it_is_written(bool tooLow)
    {
        using var dir = new TempDir();
        byte[] image = await Qcow2Images.CreateAsync(
            new Qcow2CreateOptions { ClusterSize = 4096, LazyRefcounts = true }, 4 << 20);
        byte[] content = TestPattern.Make(1 << 20, 0, 1);
        image = await Qcow2Images.WriteAsync(image, 0, content);

        // What a program with lazy refcounts leaves behind: the bit, and counts that nobody brought up to date.
        BinaryPrimitives.WriteUInt64BigEndian(image.AsSpan(72), 1);
        for (int cluster = 12; cluster < 200; cluster++)
        {
            BinaryPrimitives.WriteUInt16BigEndian(image.AsSpan((2 * 4096) + (cluster * 2)), (ushort)(tooLow ? 0 : 3));
        }

        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        await graph.Root.WriteAsync(2 << 20, content);
        await graph.CloseAsync();
        await Qcow2Images.AssertCleanAsync(device.Content, "rebuilt");
        Qcow2Images.AssertPeerClean(device.Content, dir, "rebuilt");
        Assert.Equal(0UL, BinaryPrimitives.ReadUInt64BigEndian(device.Content.AsSpan(72)));
        (graph, _) = await Qcow2Images.OpenAsync(device.Content, TestGraph.ReadOnly);
        byte[] found = await Qcow2Images.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(content, found.AsSpan(0, content.Length), 0, "first");
        TestPattern.AssertEqual(content, found.AsSpan(2 << 20, content.Length), 2 << 20, "second");
        await graph.CloseAsync();
    }

    [SkippableFact]
    public async Task Dirty_image_of_qemu_is_rebuilt_with_its_snapshots_and_bitmaps()
    {
        using var dir = new TempDir();
        byte[] image = Qcow2Images.ByPeer(dir, path =>
        {
            Qemu.Img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k,lazy_refcounts=on", path, "8M");
            Qemu.Io("qcow2", path, "write -P 1 0 1M", "write -P 2 3M 200k");
            Qemu.Img("snapshot", "-c", "one", path);
            Qemu.Img("bitmap", "--add", path, "changes");
            Qemu.Io("qcow2", path, "write -P 3 512k 1M");
        });
        (Graph graph, _) = await Qcow2Images.OpenAsync([.. image], TestGraph.ReadOnly);
        byte[] before = await Qcow2Images.ReadAllAsync(graph.Root);
        await graph.CloseAsync();
        Qcow2Header header = Qcow2Header.Parse(image, image.Length);
        long block = (long)BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan((int)header.RefcountTableOffset));
        image.AsSpan((int)block + 8, 1000).Clear();
        BinaryPrimitives.WriteUInt64BigEndian(image.AsSpan(72), 1);

        (graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        byte[] content = TestPattern.Make(2 << 20, 0, 4);
        await graph.Root.WriteAsync(1 << 20, content);
        content.CopyTo(before, 1 << 20);
        byte[] snapshot = await Qcow2Images.ReadAllAsync(await graph.OpenSnapshotAsync("one"));
        Assert.True(snapshot.AsSpan(512 << 10, 512 << 10).IndexOfAnyExcept((byte)1) < 0, "the snapshot changed");
        byte[] disk = await Qcow2Images.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(before, disk, 0, "the disk");
        await graph.CloseAsync();
        Qcow2Images.AssertPeerClean(device.Content, dir, "rebuilt");
        await Qcow2Images.AssertCleanAsync(device.Content, "rebuilt");
    }

    [Fact]
    public async Task Corrupt_image_is_refused_for_writing_and_read_with_a_warning()
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions(), 1 << 20);
        image[79] |= 2;
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await Qcow2Images.OpenAsync(image));
        Assert.Contains("corrupt", e.Message, StringComparison.Ordinal);
        (Graph graph, _) = await Qcow2Images.OpenAsync(image, TestGraph.ReadOnly);
        Assert.Contains(graph.Warnings, warning => warning.Contains("corrupt", StringComparison.Ordinal));
        await Qcow2Images.ReadAllAsync(graph.Root);
        await graph.CloseAsync();
    }

    [Theory]
    [InlineData("L1 table")]
    [InlineData("refcount table")]
    [InlineData("refcount block")]
    [InlineData("L2 table")]
    [InlineData("header")]
    public async Task Write_through_a_mapping_to_metadata_is_refused_and_the_image_marked(string where)
    {
        const int Cluster = 4096;
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions { ClusterSize = Cluster }, 1 << 20);
        image = await Qcow2Images.WriteAsync(image, 0, TestPattern.Make(Cluster, 0, 1));
        Qcow2Header header = Qcow2Header.Parse(image, image.Length);
        ulong l1Entry = BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan((int)header.L1Offset));
        long l2 = (long)(l1Entry & Qcow2Layout.OffsetMask);
        long target = where switch
        {
            "L1 table" => header.L1Offset,
            "refcount table" => header.RefcountTableOffset,
            "refcount block" => 2 * Cluster,
            "L2 table" => l2,
            _ => 0,
        };
        BinaryPrimitives.WriteUInt64BigEndian(image.AsSpan((int)l2), (ulong)target | Qcow2Layout.CopiedFlag);
        byte[] before = [.. image];
        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.WriteAsync(100, new byte[50]));
        Assert.Equal(BlockErrorKind.InvalidData, e.Kind);
        Assert.Equal(2, device.Content[79]);
        before[79] = 2;
        Assert.True(
            before.AsSpan().SequenceEqual(device.Content.AsSpan(0, before.Length)), "more than the bit was changed");
        e = await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.WriteAsync(500 << 10, new byte[50]));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
        await graph.CloseAsync();
    }

    [Fact]
    public async Task Unknown_incompatible_feature_is_refused_by_the_name_that_the_image_gives_it()
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions(), 1 << 20);
        image[77] = 0x10; // Bit 20.
        int entry = 112 + 8;
        image[entry] = 0;
        image[entry + 1] = 20;
        "time travel\0"u8.CopyTo(image.AsSpan(entry + 2));
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await Qcow2Images.OpenAsync(image, TestGraph.ReadOnly));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        Assert.Contains("time travel", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1, BlockErrorKind.PermissionDenied, "passphrase")]
    [InlineData(2, BlockErrorKind.InvalidData, "encryption method")]
    [InlineData(3, BlockErrorKind.InvalidData, "encryption method")]
    public async Task Encrypted_image_that_cannot_be_unlocked_says_why(byte method, BlockErrorKind kind, string word)
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions(), 1 << 20);
        image[35] = method;
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await Qcow2Images.OpenAsync(image, TestGraph.ReadOnly));
        Assert.Equal(kind, e.Kind);
        Assert.Contains(word, e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Unknown_autoclear_feature_is_cleared_by_the_first_write()
    {
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions(), 1 << 20);
        image[94] = 0x40;
        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        Assert.Equal(0x40, device.Content[94]);
        await graph.Root.WriteAsync(0, new byte[512]);
        Assert.Equal(0, device.Content[94]);
        await graph.CloseAsync();
    }

    [SkippableFact]
    public async Task Enabled_bitmap_is_marked_in_use_by_the_first_write_and_qemu_can_remove_it()
    {
        using var dir = new TempDir();
        byte[] image = Qcow2Images.ByPeer(dir, path =>
        {
            Qemu.Img("create", "-q", "-f", "qcow2", path, "8M");
            Qemu.Img("bitmap", "--add", path, "enabled");
            Qemu.Img("bitmap", "--add", "--disable", path, "disabled");
        });
        (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image);
        await graph.Root.WriteAsync(0, TestPattern.Make(1 << 20, 0, 1));
        await graph.CloseAsync();
        string after = dir.Write("after.qcow2", device.Content);
        string info = Qemu.Img("info", after);
        Assert.Contains("in-use", info, StringComparison.Ordinal);
        Assert.Single(info.Split("in-use").Skip(1)); // The disabled one stays valid.
        Qcow2Images.AssertPeerClean(device.Content, dir, "with bitmaps");
        Qemu.Img("bitmap", "--remove", after, "enabled");
        Qemu.Img("bitmap", "--enable", after, "disabled");
        Assert.DoesNotContain("in-use", Qemu.Img("info", after), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Device_that_cannot_grow_is_filled_to_its_end_and_then_says_so()
    {
        const int Cluster = 4096;
        byte[] image = await Qcow2Images.CreateAsync(new Qcow2CreateOptions { ClusterSize = Cluster }, 4 << 20);
        var content = new byte[1 << 20];
        new Random(3).NextBytes(content); // A device holds anything behind the image.
        image.CopyTo(content, 0);
        var device = new MemoryDevice(content) { Declared = BlockCapabilities.Write };
        Graph graph = await TestGraph.Opener.OpenOverAsync(
            "qcow2", new BlockNode("device", "test", device), TestGraph.Writable);
        int written = 0;
        BlockException? full = null;
        byte[] block = TestPattern.Make(Cluster, 0, 1);
        while (full is null)
        {
            try
            {
                await graph.Root.WriteAsync((long)written * Cluster, block.AsMemory(0, 1000));
                written++;
            }
            catch (BlockException e)
            {
                full = e;
            }
        }

        Assert.Equal(BlockErrorKind.NoSpace, full.Kind);
        Assert.InRange(written, ((1 << 20) / Cluster) - 16, (1 << 20) / Cluster);
        await graph.Root.DiscardAsync(0, 10 * Cluster);
        await graph.Root.FlushAsync();
        await graph.Root.WriteAsync(3 << 20, block);
        byte[] found = await Qcow2Images.ReadAllAsync(graph.Root);
        for (int i = 10; i < written; i++)
        {
            TestPattern.AssertEqual(block.AsSpan(0, 1000), found.AsSpan(i * Cluster, 1000), i * Cluster, "payload");
            Span<byte> edge = found.AsSpan((i * Cluster) + 1000, Cluster - 1000);
            Assert.False(edge.ContainsAnyExcept((byte)0), "garbage shows");
        }

        await Qcow2Images.AssertCleanAsync(graph.Root, "full device");
        await graph.CloseAsync();
    }

    [Fact]
    public async Task Disk_that_grows_shows_zeroes_and_no_parent()
    {
        using var dir = new TempDir();
        const int Size = (1 << 20) + 1000 * 512;
        OptionMap more = Qcow2Images.WithParent(dir.Write("parent.raw", TestPattern.Make(4 << 20, 0, 8)));
        foreach (string layout in (string[])["default", "v2", "512", "extended-16k"])
        {
            byte[] image = await Qcow2Images.CreateAsync(Qcow2Images.Layouts[layout], Size);
            (Graph graph, MemoryDevice device) = await Qcow2Images.OpenAsync(image, TestGraph.Writable, more);
            Assert.True(await graph.Root.TryResizeAsync(6 << 20));
            Assert.Equal(6 << 20, graph.Root.Length);
            byte[] found = await Qcow2Images.ReadAllAsync(graph.Root);
            TestPattern.AssertEqual(TestPattern.Make(Size, 0, 8), found.AsSpan(0, Size), 0, layout);
            Assert.False(found.AsSpan(Size).ContainsAnyExcept((byte)0), layout + ": the parent shows");
            await Qcow2Images.AssertCleanAsync(graph.Root, layout);
            await graph.CloseAsync();
            Assert.Equal(6 << 20, Qcow2Header.Parse(device.Content, device.Length).Size);
        }
    }

    [SkippableFact]
    public async Task Version_2_image_with_snapshots_is_not_resized()
    {
        using var dir = new TempDir();
        byte[] image = Qcow2Images.ByPeer(dir, path =>
        {
            Qemu.Img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", path, "8M");
            Qemu.Img("snapshot", "-c", "one", path);
        });
        (Graph graph, _) = await Qcow2Images.OpenAsync(image);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await graph.Root.TryResizeAsync(16 << 20));
        Assert.Equal(BlockErrorKind.NotSupported, e.Kind);
        await graph.CloseAsync();
    }
}
