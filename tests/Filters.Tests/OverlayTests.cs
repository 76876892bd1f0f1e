using ImageMount.Filters.Overlay;

namespace ImageMount.Filters.Tests;

public sealed class OverlayTests : IDisposable
{
    private const int Slot = OverlayStore.SlotSize;
    private readonly TempDir _dir = new();

    public void Dispose() => _dir.Dispose();

    [Fact]
    public async Task Parent_is_opened_for_reading_only()
    {
        string path = _dir.Write("disk.img", TestPattern.Make(10_000, 0, 1));
        OptionMap options = SourceParser.Wrap(TestGraph.ForFile(path), "overlay");
        await using Graph graph = await TestGraph.Opener.OpenAsync(options, TestGraph.Writable);
        Assert.True(graph.Root.CanWrite);
        Assert.All(graph.Nodes.Where(node => node != graph.Root), node => Assert.False(node.CanWrite));
        Assert.Equal("raw", graph.Image.Driver);
    }

    [Fact]
    public async Task Writes_take_room_once_and_reads_take_none()
    {
        (BlockNode node, OverlayStore store, MemoryDevice parent) = Make(20 * Slot);
        await node.ReadAsync(0, new byte[20 * Slot]);
        Assert.Equal(0, store.UsedBytes);
        await node.WriteAsync((3 * Slot) + 100, new byte[10]);
        Assert.Equal(Slot, store.UsedBytes);
        await node.WriteAsync(3 * Slot, new byte[Slot]);
        Assert.Equal(Slot, store.UsedBytes);
        await node.WriteAsync((7 * Slot) - 1, new byte[2]);
        Assert.Equal(3 * Slot, store.UsedBytes);
        Assert.Equal(0, parent.Count(TestOperation.Write));
    }

    [Fact]
    public async Task Whole_blocks_are_never_copied_from_the_parent()
    {
        (BlockNode node, _, MemoryDevice parent) = Make(4 * Slot);
        await node.WriteAsync(4096, new byte[8192]);
        await node.WriteAsync(Slot, new byte[Slot]);
        Assert.Empty(parent.Log);
        await node.WriteAsync(5, new byte[1]);
        Assert.Equal([new TestRequest(TestOperation.Read, 0, 4096, WriteFlags.None)], parent.Log);
    }

    [Fact]
    public async Task Unchanged_ranges_are_read_from_the_parent_in_one_piece()
    {
        (BlockNode node, _, MemoryDevice parent) = Make(20 * Slot);
        await node.WriteAsync(10 * Slot, new byte[4096]);
        parent.ClearLog();
        await node.ReadAsync(0, new byte[20 * Slot]);
        Assert.Equal(
            [
                new TestRequest(TestOperation.Read, 0, 10 * Slot, WriteFlags.None),
                new TestRequest(TestOperation.Read, (10 * Slot) + 4096, (10 * Slot) - 4096, WriteFlags.None),
            ],
            parent.Log);
    }

    [Fact]
    public async Task Zeroing_a_huge_disk_takes_no_room()
    {
        var parent = new BlockNode("huge", "test", new HugeDevice(1L << 50));
        using var store = new OverlayStore(0, _dir.Path);
        var node = new BlockNode("overlay", "overlay", new OverlayDevice(parent, store));
        long before = GC.GetAllocatedBytesForCurrentThread();
        await node.ZeroAsync(4096, (1L << 40) - 4096);
        await node.DiscardAsync(0, 1L << 50);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(allocated < 16 << 20, $"{allocated} bytes");
        Assert.Equal(0, store.UsedBytes);
        byte[] found = [1, 1, 1, 1];
        await node.ReadAsync((1L << 40) - 4, found);
        Assert.Equal(new byte[4], found);
        await node.ReadAsync(1L << 40, found);
        Assert.Equal([0xAB, 0xAB, 0xAB, 0xAB], found);
        BlockExtent extent = await node.MapAsync(8192, 1L << 41);
        Assert.True(extent.IsZero);
        Assert.Equal((1L << 40) - 8192, extent.Length);

        // One block of a group that is zero as a whole becomes data; its neighbours stay zero.
        await node.WriteAsync(1L << 30, new byte[] { 5 });
        await node.ReadAsync((1L << 30) - 2, found);
        Assert.Equal([0, 0, 5, 0], found);
    }

    [Fact]
    public async Task Discarded_changes_read_as_zeroes_and_unchanged_ranges_as_before()
    {
        (BlockNode node, _, MemoryDevice parent) = Make(4 * Slot);
        await node.WriteAsync(Slot, TestPattern.Make(Slot, 0, 7));
        await node.DiscardAsync(0, 4 * Slot);
        var found = new byte[4 * Slot];
        await node.ReadAsync(0, found);
        byte[] expected = (byte[])parent.Content.Clone();
        expected.AsSpan(Slot, Slot).Clear();
        TestPattern.AssertEqual(expected, found, 0, "after discard");
    }

    [Fact]
    public async Task Shrinking_and_growing_shows_zeroes_and_reuses_room()
    {
        (BlockNode node, OverlayStore store, MemoryDevice parent) = Make((4 * Slot) + 1000);
        byte[] model = (byte[])parent.Content.Clone();
        await node.WriteAsync(0, model = TestPattern.Make(model.Length, 0, 3));
        Assert.Equal(5 * Slot, store.UsedBytes);
        Assert.True(await node.TryResizeAsync(Slot + 5000));
        Assert.Equal(2 * Slot, store.UsedBytes);
        Assert.True(await node.TryResizeAsync(10 * Slot));
        Array.Resize(ref model, Slot + 5000);
        Array.Resize(ref model, 10 * Slot);
        var found = new byte[10 * Slot];
        await node.ReadAsync(0, found);
        TestPattern.AssertEqual(model, found, 0, "after shrinking and growing");
        await node.WriteAsync(5 * Slot, new byte[Slot]);
        Assert.Equal(3 * Slot, store.UsedBytes);
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(2, 2 * Slot)]
    [InlineData(3, 1 << 30)]
    public async Task Random_operations_agree_with_a_byte_array(int seed, long memory)
    {
        byte[] content = TestPattern.Make((6 * Slot) + 777, 0, seed);
        await new ModelTest
        {
            Initial = content,
            Seed = seed,
            CanReopen = false,
            ComparesAfterReopen = false,
            ResizeGranularity = 1,
            Steps = 400,
            CreateAsync = () => new(flags => TestGraph.Opener.OpenOverAsync(
                "overlay",
                new BlockNode("mem", "memory", new MemoryDevice(content) { Declared = BlockCapabilities.None }),
                flags, OptionSyntax.ParsePairs($"memory={memory},directory={_dir.Path}"))),
        }.RunAsync();
    }

    [Fact]
    public async Task Temporary_file_has_no_name()
    {
        (BlockNode node, _, _) = Make(4 * Slot, memory: Slot);
        await node.WriteAsync(0, new byte[4 * Slot]);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_dir.Path));
    }

    [Fact]
    public async Task Folder_that_does_not_exist_is_an_error_on_the_write_that_needs_it()
    {
        var store = new OverlayStore(Slot, _dir.File("missing"));
        var node = new BlockNode(
            "overlay", "overlay", new OverlayDevice(new BlockNode("mem", "memory", new MemoryDevice(4 * Slot)), store));
        await node.WriteAsync(0, new byte[Slot]);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await node.WriteAsync(Slot, new byte[Slot]));
        Assert.Contains(_dir.File("missing"), e.Describe(), StringComparison.Ordinal);
        Assert.Contains("TMPDIR", e.Hint, StringComparison.Ordinal);
        await node.ReadAsync(Slot, new byte[Slot]);
    }

#if !DEBUG
    // Debug builds allocate a state machine for every async call; scripts/test runs this in a release build.
    [SkippableFact]
    [Trait("Build", "Release")]
    public async Task Warm_requests_allocate_nothing()
    {
        (BlockNode node, _, _) = Make(8 * Slot);
        var buffer = new byte[8192];
        for (int i = 0; i < 100; i++)
        {
            await node.WriteAsync(4096, buffer);
            await node.ReadAsync(4096, buffer);
            await node.ReadAsync(4096 + 2048, buffer.AsMemory(0, 1024));
        }

        Memory<byte> small = buffer.AsMemory(0, 1024);
        Assert.Equal(0, Allocations.Least(20, () =>
        {
            for (int i = 0; i < 1000; i++)
            {
                Assert.True(node.WriteAsync(4096, buffer).IsCompletedSuccessfully
                    && node.ReadAsync(4096, buffer).IsCompletedSuccessfully
                    && node.ReadAsync(4096 + 2048, small).IsCompletedSuccessfully);
            }
        }));
    }
#endif

    private (BlockNode Node, OverlayStore Store, MemoryDevice Parent) Make(int length, long memory = 1 << 30)
    {
        var parent = new MemoryDevice(TestPattern.Make(length, 0, 1)) { Declared = BlockCapabilities.None };
        var store = new OverlayStore(memory, _dir.Path);
        var device = new OverlayDevice(new BlockNode("mem", "memory", parent), store);
        return (new BlockNode("overlay", "overlay", device), store, parent);
    }

    /// <summary>A disk of any length that is 0xAB throughout.</summary>
    private sealed class HugeDevice(long length) : BlockDevice
    {
        public override long Length => length;

        public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
        {
            buffer.Span.Fill(0xAB);
            return default;
        }
    }
}
