using System.Text;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>What we write: read by qemu-img, checked by both, and cut off at every change.</summary>
public sealed class VmdkWriteTests
{
    private static readonly string[] s_writable =
        ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"];

    public static TheoryData<string, bool> Writable()
    {
        var data = new TheoryData<string, bool>();
        foreach (string subformat in s_writable)
        {
            data.Add(subformat, false);
        }

        data.Add("monolithicSparse", true);
        data.Add("twoGbMaxExtentSparse", true);
        return data;
    }

    [SkippableTheory]
    [MemberData(nameof(Writable))]
    public async Task Written_disk_reads_the_same_in_qemu_and_checks_clean(string subformat, bool zeroedGrain)
    {
        const int Seed = 31;
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content((5 << 20) + 1536, Seed);
        string path = VmdkImages.Convert(
            dir, "disk", content, [$"subformat={subformat}", .. zeroedGrain ? (string[])["zeroed_grain=on"] : []]);
        uint cidBefore = Cid(path);
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            await ScribbleAsync(graph.Root, content, Seed, 300);
            await VmdkImages.AssertReadsAsync(graph.Root, content, "before closing");
            await VmdkImages.AssertCleanAsync(graph);
        }

        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)), $"qemu-img differs, seed {Seed}");
        if (!subformat.EndsWith("Flat", StringComparison.Ordinal))
        {
            Qemu.Img("check", "-f", "vmdk", path);
        }

        Assert.NotEqual(cidBefore, Cid(path));
        await using Graph again = await TestGraph.OpenAsync(path);
        Assert.False((await again.Root.DescribeAsync()).DirtyFlag);
        await VmdkImages.AssertReadsAsync(again.Root, content, "after closing");
        await VmdkImages.AssertCleanAsync(again);
    }

    [SkippableFact]
    public async Task Opening_for_writing_without_writing_changes_nothing()
    {
        using var dir = new TempDir();
        string path = VmdkImages.Convert(dir, "disk", VmdkImages.Content(1 << 20, 3), "subformat=monolithicSparse");
        byte[] before = File.ReadAllBytes(path);
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            await VmdkImages.ReadAllAsync(graph.Root);
            await graph.Root.FlushAsync();
        }

        Assert.True(before.AsSpan().SequenceEqual(File.ReadAllBytes(path)));
    }

    [SkippableFact]
    public async Task Extent_is_marked_unclean_while_it_is_written_and_content_id_changes_once()
    {
        using var dir = new TempDir();
        string path = VmdkImages.Convert(dir, "disk", VmdkImages.Content(1 << 20, 3), "subformat=monolithicSparse");
        uint first = Cid(path);
        Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable);
        Assert.Equal(0, File.ReadAllBytes(path)[72]);
        await graph.Root.WriteAsync(1000, new byte[10]);
        uint second = Cid(path);
        Assert.NotEqual(first, second);
        Assert.Equal(1, File.ReadAllBytes(path)[72]);
        await graph.Root.WriteAsync(500_000, new byte[100_000]);
        await graph.Root.FlushAsync();
        Assert.Equal(second, Cid(path));
        await graph.CloseAsync();
        Assert.Equal(0, File.ReadAllBytes(path)[72]);
        Assert.Equal(second, Cid(path));
    }

    [SkippableFact]
    public async Task File_ends_after_the_last_grain_when_closed()
    {
        using var dir = new TempDir();
        string path = dir.File("disk.vmdk");
        Qemu.Img("create", "-q", "-f", "vmdk", path, "64M");
        long empty = new FileInfo(path).Length;
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            await graph.Root.WriteAsync(10 << 20, new byte[] { 1 });
            await graph.Root.WriteAsync(3 << 20, new byte[] { 1 });
        }

        Assert.Equal(empty + (2 * VmdkImages.Grain), new FileInfo(path).Length);
    }

    [SkippableFact]
    public async Task Discarded_grains_give_their_space_back_to_the_host_and_stay_in_place()
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(4 << 20, 0, 12);
        string path = VmdkImages.Convert(dir, "disk", content, "subformat=monolithicSparse");
        await using (Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable))
        {
            await graph.Root.DiscardAsync(1 << 20, 2 << 20);
            await graph.Root.ZeroAsync(100, 70_000, ZeroFlags.MayUnmap);
        }

        content.AsSpan(1 << 20, 2 << 20).Clear();
        content.AsSpan(100, 70_000).Clear();
        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, path)));
        long blocks = long.Parse(Qemu.Succeed("stat", "-c", "%b", path).Trim());
        Assert.InRange(blocks * 512, 1 << 20, (5L << 20) / 2);
    }

    [SkippableTheory]
    [InlineData("streamOptimized")]
    public async Task Image_that_cannot_be_changed_refuses_to_open_for_writing_and_says_why(string subformat)
    {
        using var dir = new TempDir();
        string path = VmdkImages.Convert(dir, "disk", VmdkImages.Content(1 << 20, 3), $"subformat={subformat}");
        var e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.OpenAsync(path, TestGraph.Writable));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
        Assert.Contains("streamOptimized", e.Describe(), StringComparison.Ordinal);
        Assert.Contains("--read-only", e.Describe(), StringComparison.Ordinal);
    }

#if !DEBUG
    // Debug builds allocate a state machine for every async call; scripts/test runs this in a release build.
    [SkippableFact]
    [Trait("Build", "Release")]
    public async Task Warm_writes_in_place_do_not_allocate()
    {
        using var dir = new TempDir();
        byte[] content = TestPattern.Make(4 << 20, 0, 1);
        string path = VmdkImages.Convert(dir, "disk", content, "subformat=monolithicSparse");
        await using Graph graph = await TestGraph.OpenAsync(path, TestGraph.Writable);
        Assert.Equal(0, Allocations.Least(300, () =>
        {
            for (int at = 0; at + 200_000 < content.Length; at += 300_001)
            {
                Assert.True(graph.Root.WriteAsync(at, content.AsMemory(at, 200_000)).IsCompletedSuccessfully);
            }
        }));
    }
#endif

    [SkippableFact]
    public async Task Many_grain_tables_are_written_back_before_they_fill_the_memory()
    {
        var hand = new VmdkByHand { Capacity = 1200 << 20, GrainSize = 4 << 10, EntriesPerTable = 512 };
        var file = new MemoryDevice(hand.Build());
        await using Graph graph = await TestGraph.Opener.OpenOverAsync(
            "vmdk", new BlockNode("image", "test", file), TestGraph.Writable);
        byte[] bytes = TestPattern.Make(512, 0, 3);
        await graph.Root.WriteAsync(0, bytes);
        int flushes = file.Count(TestOperation.Flush);
        for (long at = 0; at < graph.Root.Length; at += 2 << 20)
        {
            await graph.Root.WriteAsync(at, bytes);
        }

        Assert.InRange(file.Count(TestOperation.Flush) - flushes, 4, 8);
        await VmdkImages.AssertCleanAsync(graph);
    }

    [SkippableFact]
    public async Task Child_keeps_the_parent_as_it_is_and_fills_new_grains_from_it()
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content((2 << 20) + 512, 17);
        string parent = VmdkImages.Convert(dir, "parent", content, "subformat=monolithicSparse");
        byte[] parentBytes = File.ReadAllBytes(parent);
        string child = dir.File("child.vmdk");
        Qemu.Img("create", "-q", "-f", "vmdk", "-o", "backing_fmt=vmdk", "-b", parent, child);
        await using (Graph graph = await TestGraph.OpenAsync(child, TestGraph.Writable))
        {
            await ScribbleAsync(graph.Root, content, 18, 100);
            await VmdkImages.AssertReadsAsync(graph.Root, content, "child");
        }

        Assert.True(content.AsSpan().SequenceEqual(VmdkImages.ReadByPeer(dir, child)));
        Assert.True(parentBytes.AsSpan().SequenceEqual(File.ReadAllBytes(parent)), "the parent was changed");
    }

    [SkippableTheory]
    [InlineData("", 1)]
    [InlineData("", 2)]
    [InlineData("zeroed_grain=on", 3)]
    public async Task Crash_at_any_change_leaves_every_sector_old_or_new(string options, int seed)
    {
        using var dir = new TempDir();
        byte[] content = VmdkImages.Content((1 << 20) + 1536, seed);
        string[] all = ["subformat=monolithicSparse", .. options.Length == 0 ? [] : options.Split(',')];
        byte[] image = File.ReadAllBytes(VmdkImages.Convert(dir, "disk", content, all));
        await CrashAsync(image, content, seed, asynchronously: seed == 2);
    }

    [SkippableFact]
    public async Task Crash_while_grain_tables_are_being_added_leaves_every_sector_old_or_new()
    {
        var hand = new VmdkByHand { Capacity = 3 << 20, GrainSize = 8 << 10, EntriesPerTable = 128, TablesMissing = true };
        await CrashAsync(hand.Build(), new byte[3 << 20], 5, asynchronously: false);
    }

    [SkippableFact]
    public async Task Crash_while_redundant_tables_are_repaired_leaves_every_sector_old_or_new()
    {
        // Three tables. The copy of the first differs, the second has none, that of the third is ahead.
        byte[] content = VmdkImages.Content((2 << 20) + 4096, 6);
        var hand = new VmdkByHand
        {
            Capacity = content.Length,
            GrainSize = 8 << 10,
            EntriesPerTable = 128,
            Content = content,
        };
        byte[] image = hand.Build();
        image[72] = 1; // Not closed.
        int copies = hand.RedundantOffset + 512;
        image.AsSpan(copies, 200).Clear();
        image.AsSpan(hand.RedundantOffset + 4, 4).Clear();
        image[copies + 1024 + 5] = 77;
        await CrashAsync(image, content, 6, asynchronously: false, steps: 3);
    }

    private static async Task CrashAsync(
        byte[] image, byte[] content, int seed, bool asynchronously, int steps = 40)
    {
        var test = new CrashTest
        {
            Image = image,
            InitialDisk = content,
            Seed = seed,
            CompletesAsynchronously = asynchronously,
            SecondCrashes = 2,
            OpenAsync = (file, flags) => TestGraph.Opener.OpenOverAsync("vmdk", file, flags),
            PeerCheck = CrashTest.QemuCheck("vmdk"),
        };
        int states = await test.RunAsync(async guest =>
        {
            var random = new Random(seed);
            for (int i = 0; i < steps; i++)
            {
                int at = random.Next(0, content.Length / 512) * 512;
                int count = Math.Min(random.Next(1, 300) * 512, content.Length - at);
                switch (random.Next(6))
                {
                    case 0:
                        await guest.FlushAsync();
                        break;
                    case 1:
                        await guest.ZeroAsync(at, count, ZeroFlags.MayUnmap);
                        break;
                    default:
                        await guest.WriteAsync(at, count);
                        break;
                }
            }
        });
        Assert.InRange(states, steps * 2, int.MaxValue);
    }

    /// <summary>Random writes, zeroes, discards and flushes, mirrored in an array.</summary>
    internal static async Task ScribbleAsync(BlockNode disk, byte[] content, int seed, int steps)
    {
        var random = new Random(seed);
        for (int i = 0; i < steps; i++)
        {
            int at = random.Next(content.Length);
            int count = Math.Min(random.Next(1, random.Next(3) == 0 ? 300_000 : 5000), content.Length - at);
            switch (random.Next(8))
            {
                case 0:
                    await disk.ZeroAsync(at, count, random.Next(2) == 0 ? ZeroFlags.None : ZeroFlags.MayUnmap);
                    content.AsSpan(at, count).Clear();
                    break;
                case 1:
                    await disk.FlushAsync();
                    break;
                default:
                    byte[] bytes = TestPattern.Make(count, at, i);
                    bytes.CopyTo(content.AsSpan(at));
                    await disk.WriteAsync(at, bytes);
                    break;
            }
        }
    }

    internal static uint Cid(string path)
    {
        string text = Encoding.Latin1.GetString(File.ReadAllBytes(path).AsSpan(0, (int)Math.Min(4096, new FileInfo(path).Length)));
        int at = text.IndexOf("\nCID=", StringComparison.Ordinal) + 5;
        int end = text.AsSpan(at).IndexOfAny('\r', '\n'); // qemu leaves leading zeroes out.
        return uint.Parse(text.AsSpan(at, end), System.Globalization.NumberStyles.HexNumber);
    }
}
