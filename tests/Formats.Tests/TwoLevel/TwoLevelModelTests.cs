using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.TwoLevel;

/// <summary>Random operations compared with a byte array, over formats and geometries, with and without a parent.</summary>
public sealed class TwoLevelModelTests
{
    public static TheoryData<string, bool, int> Cases() => TwoLevelImages.Cases(1, 2);

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Random_operations_match_a_byte_array(string name, bool hasParent, int seed)
    {
        using var dir = new TempDir();
        TwoLevelLayout layout = TwoLevelImages.Layouts[name];
        int size = TwoLevelImages.SizeFor(layout, 500_000);
        byte[] content = new byte[size];
        OptionMap? more = null;
        if (hasParent)
        {
            // Shorter than the disk, and not at a unit's end.
            byte[] parent = TestPattern.Make((size * 2 / 3) + 700, 0, seed);
            parent.CopyTo(content, 0);
            more = TwoLevelImages.WithParent(dir.Write("parent.raw", parent));
        }

        byte[] empty = await layout.CreateAsync(size);
        await new ModelTest
        {
            Seed = seed,
            Steps = 200,
            Initial = content,
            Unit = layout.ClusterSize,
            Largest = Math.Min(size, Math.Max(200 << 10, layout.ClusterSize * 2)),
            ResizeGranularity = layout.Driver == "qed" ? 512 : 0,
            CreateAsync = () =>
            {
                byte[] image = (byte[])empty.Clone();
                MemoryDevice? device = null;
                return new(async flags =>
                {
                    image = device?.Content ?? image;
                    (Graph graph, device) = await TwoLevelImages.OpenAsync(layout.Driver, image, flags, more);
                    return graph;
                });
            },
        }.RunAsync();
    }

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Image_after_random_operations_is_sound_and_qemu_agrees(string name, bool hasParent, int seed)
    {
        using var dir = new TempDir();
        TwoLevelLayout layout = TwoLevelImages.Layouts[name];
        int size = TwoLevelImages.SizeFor(layout, 400_000);
        OptionMap? more = hasParent
            ? TwoLevelImages.WithParent(dir.Write("parent.raw", TestPattern.Make(size / 2, 0, seed)))
            : null;
        byte[] image = await layout.CreateAsync(size);
        var random = new Random(seed + 100);
        for (int session = 0; session < 3; session++)
        {
            (Graph graph, MemoryDevice device) = await TwoLevelImages.OpenAsync(layout.Driver, image, null, more);
            byte[] content;
            await using (graph)
            {
                await TwoLevelImages.ChurnAsync(graph.Root, random, 50, layout.ClusterSize);
                content = await TwoLevelImages.ReadAllAsync(graph.Root);
                await TwoLevelImages.AssertCleanAsync(graph.Root, $"session {session}, open");
            }

            image = device.Content;
            (graph, _) = await TwoLevelImages.OpenAsync(layout.Driver, image, TestGraph.ReadOnly, more);
            await using (graph)
            {
                await TwoLevelImages.AssertCleanAsync(graph.Root, $"session {session}, closed");
                byte[] again = await TwoLevelImages.ReadAllAsync(graph.Root);
                TestPattern.AssertEqual(content, again, 0, "read again");
            }

            if (!hasParent && TwoLevelImages.PeerOpens(layout))
            {
                TwoLevelImages.AssertPeerReads(dir, layout.Driver, image, content, $"session {session}");
            }
        }
    }

    [Theory]
    [InlineData("qed-4k")]
    [InlineData("qcow-512")]
    public async Task Opening_for_writing_without_writing_changes_nothing(string name)
    {
        TwoLevelLayout layout = TwoLevelImages.Layouts[name];
        int size = TwoLevelImages.SizeFor(layout, 100_000);
        byte[] image = await TwoLevelImages.WriteAsync(
            layout.Driver, await layout.CreateAsync(size), 5000, TestPattern.Make(20_000, 0, 1));
        (Graph graph, MemoryDevice device) = await TwoLevelImages.OpenAsync(layout.Driver, (byte[])image.Clone());
        await using (graph)
        {
            await TwoLevelImages.ReadAllAsync(graph.Root);
            await graph.Root.FlushAsync();
        }

        Assert.True(image.AsSpan().SequenceEqual(device.Content));
    }

    [Theory]
    [InlineData("qed-4k")]
    [InlineData("qcow-4k")]
    public async Task Writers_of_one_new_cluster_at_once_lose_nothing(string name)
    {
        TwoLevelLayout layout = TwoLevelImages.Layouts[name];
        const int Size = 256 << 10;
        (BlockNode node, MemoryDevice device) = TwoLevelImages.Memory(await layout.CreateAsync(Size));
        device.CompletesAsynchronously = true;
        await using Graph graph = await TwoLevelImages.OpenOverAsync(layout.Driver, node, TestGraph.Writable);
        byte[] content = TestPattern.Make(Size, 0, 7);
        int[] order = [.. Enumerable.Range(0, Size / 512)];
        new Random(5).Shuffle(order);
        await Parallel.ForEachAsync(order, new ParallelOptions { MaxDegreeOfParallelism = 12 }, async (sector, token) =>
            await graph.Root.WriteAsync(sector * 512, content.AsMemory(sector * 512, 512), cancellationToken: token));
        byte[] found = await TwoLevelImages.ReadAllAsync(graph.Root);
        TestPattern.AssertEqual(content, found, 0, "after all writes");
        await TwoLevelImages.AssertCleanAsync(graph.Root, "after all writes");
    }

#if !DEBUG
    // Debug builds allocate a state machine for every async call; scripts/test runs this in a release build.
    [Theory]
    [Trait("Build", "Release")]
    [InlineData("qed-64k")]
    [InlineData("qcow-4k")]
    public async Task Warm_requests_do_not_allocate(string name)
    {
        TwoLevelLayout layout = TwoLevelImages.Layouts[name];
        byte[] content = TestPattern.Make(4 << 20, 0, 7);
        byte[] image = await TwoLevelImages.WriteAsync(
            layout.Driver, await layout.CreateAsync(content.Length), 0, content);
        using var dir = new TempDir();
        await using Graph graph = await TestGraph.OpenAsync(dir.Write("image", image), TestGraph.Writable);
        var buffer = new byte[100_000];
        await graph.Root.WriteAsync(0, buffer);
        Assert.Equal(0, Allocations.Least(300, () =>
        {
            for (int at = 0; at + buffer.Length < content.Length; at += 300_001)
            {
                Assert.True(graph.Root.ReadAsync(at, buffer).IsCompletedSuccessfully);
                Assert.True(graph.Root.WriteAsync(at, buffer).IsCompletedSuccessfully);
            }
        }));
    }
#endif
}
