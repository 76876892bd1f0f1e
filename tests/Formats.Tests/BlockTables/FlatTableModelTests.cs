using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.BlockTables;

/// <summary>Random operations on images with a flat table, compared with a byte array; then what qemu says of them.</summary>
public sealed class FlatTableModelTests
{
    public static TheoryData<string, int> Cases => FlatTableImages.Cases(3);

    public static TheoryData<string, int> OneOfEach => FlatTableImages.Cases(1);

    public static TheoryData<string, int> PeerCases => FlatTableImages.Cases(2, variant => variant.PeerReads);

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Random_operations_match_a_byte_array(string name, int seed)
    {
        using var dir = new TempDir();
        FlatTableVariant variant = FlatTableImages.Variants[name];
        int size = variant.DiskSize;
        byte[] content = new byte[size];
        OptionMap? more = null;
        if (variant.HasParent)
        {
            // Shorter than the disk, and not at a unit's end.
            byte[] parent = TestPattern.Make((size * 2 / 3) + 700, 0, seed);
            parent.CopyTo(content, 0);
            more = FlatTableImages.WithParent(dir.Write("parent.raw", parent));
        }

        byte[] empty = await variant.Make(size);
        await new ModelTest
        {
            Seed = seed,
            Steps = variant.Unit > 100_000 ? 120 : 250,
            Initial = content,
            Unit = variant.Unit,
            Largest = Math.Min(size, Math.Max(64 << 10, variant.Unit * 2)),
            CreateAsync = () =>
            {
                byte[] image = (byte[])empty.Clone();
                MemoryDevice? device = null;
                return new(async flags =>
                {
                    image = device?.Content ?? image;
                    (Graph graph, device) = await FlatTableImages.OpenAsync(variant.Format, image, flags, more);
                    return graph;
                });
            },
        }.RunAsync();
    }

    [SkippableTheory]
    [MemberData(nameof(PeerCases))]
    public async Task Qemu_reads_what_was_written_and_its_check_is_clean(string name, int seed)
    {
        using var dir = new TempDir();
        FlatTableVariant variant = FlatTableImages.Variants[name];
        byte[] image = await variant.Make(variant.DiskSize);
        var random = new Random(seed);
        for (int session = 0; session < 2; session++)
        {
            (Graph graph, MemoryDevice device) = await FlatTableImages.OpenAsync(
                variant.Format, image, TestGraph.Writable);
            byte[] content;
            await using (graph)
            {
                await ChurnAsync(graph.Root, random, 40);
                content = await FlatTableImages.ReadAllAsync(graph.Root);
            }

            image = device.Content;
            (graph, _) = await FlatTableImages.OpenAsync(variant.Format, image, TestGraph.ReadOnly);
            await using (graph)
            {
                await FlatTableImages.AssertCleanAsync(graph, $"seed {seed}, session {session}");
            }

            byte[] theirs = FlatTableImages.ReadByPeer(dir, variant.Format, image);
            TestPattern.AssertEqual(content, theirs.AsSpan(0, content.Length), 0, $"qemu, seed {seed}");
            ToolResult check = Qemu.Run("qemu-img", "check", "-f", variant.Format, dir.File("image." + variant.Format));
            Assert.True(check.ExitCode is 0 or 63, $"seed {seed}: qemu-img check gave {check.ExitCode}: {check.All}");
        }
    }

    [Theory]
    [MemberData(nameof(OneOfEach))]
    public async Task Opening_for_writing_without_writing_changes_nothing(string name, int seed)
    {
        using var dir = new TempDir();
        FlatTableVariant variant = FlatTableImages.Variants[name];
        byte[] image = await variant.Make(variant.DiskSize);
        OptionMap? more = variant.HasParent
            ? FlatTableImages.WithParent(dir.Write("parent.raw", TestPattern.Make(50_000, 0, seed))) : null;
        byte[] before = (byte[])image.Clone();
        (Graph graph, MemoryDevice device) = await FlatTableImages.OpenAsync(
            variant.Format, image, TestGraph.Writable, more);
        await using (graph)
        {
            await FlatTableImages.ReadAllAsync(graph.Root);
            await graph.Root.FlushAsync();
            await ((ICheckable)graph.Image.Device).CheckAsync(default);
        }

        Assert.True(before.AsSpan().SequenceEqual(device.Content), $"{name} was changed");
    }

    private static async Task ChurnAsync(BlockNode disk, Random random, int steps)
    {
        for (int i = 0; i < steps; i++)
        {
            long offset = random.NextInt64(0, disk.Length);
            int count = (int)Math.Min(disk.Length - offset, random.Next(1, 200_000));
            switch (random.Next(8))
            {
                case 0:
                    await disk.ZeroAsync(offset, count, random.Next(2) == 0 ? ZeroFlags.MayUnmap : ZeroFlags.None);
                    break;
                case 1:
                    await disk.DiscardAsync(offset, count);
                    break;
                case 2:
                    await disk.FlushAsync();
                    break;
                default:
                    await disk.WriteAsync(offset, TestPattern.Make(count, offset, random.Next()));
                    break;
            }
        }
    }
}
