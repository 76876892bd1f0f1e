using ImageMount.Formats.Tests.Qed;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.TwoLevel;

/// <summary>The power is cut at every change of the file. Small geometries make new tables all the time.</summary>
public sealed class TwoLevelCrashTests
{
    public static TheoryData<string, int> Small() => new()
    {
        { "qed-4k", 1 }, { "qed-4k-1", 2 }, { "qed-8k-16", 3 }, { "qcow-512", 4 }, { "qcow-512", 5 }, { "qcow-4k", 6 }, { "qcow-aes-4k", 7 },
    };

    [SkippableTheory]
    [MemberData(nameof(Small))]
    public async Task Mixed_workload(string name, int seed)
    {
        TwoLevelLayout layout = TwoLevelImages.Layouts[name];
        int size = (192 << 10) + (512 * 3);
        byte[] first = TestPattern.Make(size / 3, 0, 99);
        byte[] image = await TwoLevelImages.WriteAsync(layout.Driver, await layout.CreateAsync(size), 0, first);
        var initial = new byte[size];
        first.CopyTo(initial, 0);
        CrashTest test = Test(layout, image, initial, seed, secondCrashes: 3);
        int states = await test.RunAsync(guest => guest.RunMixedAsync(40, 40 << 10));
        Assert.InRange(states, 100, int.MaxValue);
        if (layout.Driver == "qed")
        {
            Assert.InRange(test.RecoveryChanges, 1, int.MaxValue); // Or the second crash met no repair.
        }
    }

    [SkippableTheory]
    [InlineData(1)]
    public async Task Repair_of_a_qed_that_was_not_closed(int seed)
    {
        // Entries whose clusters never reached the file, as a program may leave them that writes in another order.
        const int Size = (64 << 10) + 512;
        var hand = new QedByHand(Size) { Features = 2 };
        hand.SetL2(1, hand.Data(400)).SetL2(2, hand.Data(0)).Fill(0, 9).SetL2(5, 0x7000_0000).SetL2(9, 2049);
        var initial = new byte[Size];
        initial.AsSpan(2 * 4096, 4096).Fill(9);
        var test = new CrashTest
        {
            Image = hand.Image,
            InitialDisk = initial,
            Seed = seed,
            SecondCrashes = 4,
            OpenAsync = (node, flags) => TwoLevelImages.OpenOverAsync("qed", node, flags),
        };
        await test.RunAsync(guest => guest.RunMixedAsync(5, 8 << 10));
        Assert.InRange(test.RecoveryChanges, 2, int.MaxValue);
    }

    [SkippableTheory]
    [InlineData("qed", "backing_fmt=raw,cluster_size=4k,table_size=1", 1)]
    [InlineData("qed", "backing_fmt=raw,cluster_size=16k,table_size=8", 2)]
    [InlineData("qcow", "", 3)]
    public async Task Child_as_our_creator_makes_it(string driver, string options, int seed)
    {
        using var dir = new TempDir();
        const int Size = (96 << 10) + 1024;
        byte[] parent = TestPattern.Make((Size / 4 * 3 / 512 * 512) + 512, 0, 5);
        var initial = new byte[Size];
        parent.CopyTo(initial, 0);
        dir.Write("parent.raw", parent);
        OptionMap map = options.Length > 0 ? OptionSyntax.ParsePairs(options) : new OptionMap();
        map.Set("size", $"{Size}");
        map.Set("backing_file", "parent.raw");
        await new ImageMaker(TestGraph.Registry).CreateAsync(driver, dir.File("child"), map, new CreateRequest());
        await new CrashTest
        {
            Image = File.ReadAllBytes(dir.File("child")),
            ImageName = "child",
            MoreFiles = [("parent.raw", parent)],
            InitialDisk = initial,
            Seed = seed,
            MixturesPerCut = 1,
            SecondCrashes = 2,
            PeerChecks = 5,
            OpenAsync = (file, flags) => CrashFiles.Of(file).OpenAsync(driver, flags),
            PeerCheck = options.Contains("table_size=8", StringComparison.Ordinal) ? CrashTest.QemuCheck("qed") : null,
        }.RunAsync(async guest =>
        {
            await guest.RunMixedAsync(20, 20 << 10);
            Assert.DoesNotContain(guest.Device.Log, change => change.File.Name == "parent.raw");
        });
    }

    [SkippableTheory]
    [MemberData(nameof(Small))]
    public async Task Parent_shows_where_nothing_was_written_and_nowhere_else(string name, int seed)
    {
        using var dir = new TempDir();
        TwoLevelLayout layout = TwoLevelImages.Layouts[name];
        const int Size = 128 << 10;
        byte[] parent = TestPattern.Make((Size / 4 * 3) + 512, 0, 5);
        var initial = new byte[Size];
        parent.CopyTo(initial, 0);
        await Test(
            layout, await layout.CreateAsync(Size), initial, seed,
            TwoLevelImages.WithParent(dir.Write("parent.raw", parent)))
            .RunAsync(guest => guest.RunMixedAsync(30, 20 << 10));
    }

    [SkippableTheory]
    [InlineData("qed-4k", 3)]
    [InlineData("qcow-512", 4)]
    public async Task Many_requests_at_once(string name, int seed)
    {
        TwoLevelLayout layout = TwoLevelImages.Layouts[name];
        const int Size = 96 << 10;
        const int Tasks = 6;
        byte[] image = await layout.CreateAsync(Size);
        CrashTest test = Test(layout, image, new byte[Size], seed, asynchronous: true);
        await test.RunAsync(guest => Task.WhenAll(Enumerable.Range(0, Tasks).Select(worker => Task.Run(async () =>
        {
            var random = new Random((seed * 100) + worker);
            const int Sectors = Size / 512 / Tasks;
            for (int i = 0; i < 25; i++)
            {
                int first = random.Next(Sectors);
                int count = random.Next(1, Math.Min(9, Sectors - first + 1));
                long offset = ((worker * Sectors) + first) * 512L;
                switch (random.Next(7))
                {
                    case 0:
                        await guest.FlushAsync();
                        break;
                    case 1:
                        await guest.ZeroAsync(offset, count * 512, ZeroFlags.MayUnmap);
                        break;
                    case 2:
                        await guest.DiscardAsync(offset, count * 512);
                        break;
                    default:
                        await guest.WriteAsync(offset, count * 512);
                        break;
                }
            }
        }))));
    }

    [SkippableTheory]
    [InlineData("qed-4k", 3)]
    [InlineData("qcow-512", 4)]
    public async Task Failing_disk_loses_nothing_that_was_flushed(string name, int seed)
    {
        TwoLevelLayout layout = TwoLevelImages.Layouts[name];
        const int Size = 128 << 10;
        var failures = new Random(seed);
        CrashTest test = Test(layout, await layout.CreateAsync(Size), new byte[Size], seed);
        await test.RunAsync(async guest =>
        {
            guest.Device.Fail = (_, request) =>
            {
                lock (failures)
                {
                    return failures.Next(12) != 0 ? null
                        : request.Operation == TestOperation.Resize ? CrashDevice.NoSpace() : CrashDevice.IoError();
                }
            };
            for (int i = 0; i < 40; i++)
            {
                try
                {
                    await guest.RunMixedAsync(2, 12 << 10);
                }
                catch (BlockException e) when (e.Kind is BlockErrorKind.IoError or BlockErrorKind.NoSpace)
                {
                    // The guest was told. What was acknowledged before has to be there all the same.
                }
            }

            guest.Device.Fail = null;
            await guest.FlushAsync();
        });
    }

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Compressed_clusters_are_replaced(int seed)
    {
        using var dir = new TempDir();
        const int Size = 160 << 10;
        byte[] content = TestPattern.Make(Size, 0, seed);
        for (int at = 0; at < Size; at += 6000)
        {
            content.AsSpan(at, Math.Min(5000, Size - at)).Fill((byte)(at / 6000)); // Or it would not compress.
        }

        string path = dir.File("pressed.qcow");
        Qemu.CompressedQcow(dir.Write("content.raw", content), path);
        byte[] image = File.ReadAllBytes(path);
        Assert.True(image.Length < Size);
        await Test(TwoLevelImages.Layouts["qcow-4k"], image, content, seed)
            .RunAsync(guest => guest.RunMixedAsync(30, 20 << 10));
    }

    [SkippableFact]
    public async Task Growing_leaves_the_old_size_or_the_new_one()
    {
        const int Size = 100 << 10;
        TwoLevelLayout layout = TwoLevelImages.Layouts["qed-4k"];
        byte[] content = TestPattern.Make(Size, 0, 4);
        byte[] image = await TwoLevelImages.WriteAsync("qed", await layout.CreateAsync(Size), 0, content);
        var device = new CrashDevice(image);
        Graph graph = await OpenAsync(layout, device, TestGraph.Writable);
        Assert.True(await graph.Root.TryResizeAsync(5 << 20));
        await graph.Root.WriteAsync((4 << 20) + 512, content);
        await graph.CloseAsync();
        for (int cut = 0; cut <= device.OperationCount; cut++)
        {
            foreach (CrashPolicy policy in Enum.GetValues<CrashPolicy>())
            {
                await using Graph left = await OpenAsync(layout, device.Recover(cut, policy, 3), TestGraph.ReadOnly);
                Assert.True(left.Root.Length is Size or 5 << 20, $"cut {cut}, {policy}: length {left.Root.Length}");
                byte[] disk = await TwoLevelImages.ReadAllAsync(left.Root);
                TestPattern.AssertEqual(content, disk.AsSpan(0, Size), 0, $"cut {cut}, {policy}");
                Assert.False(
                    disk.AsSpan(Size, Math.Min(disk.Length, 4 << 20) - Size).ContainsAnyExcept((byte)0),
                    $"cut {cut}, {policy}: new space is not zero");
            }
        }
    }

    private static CrashTest Test(
        TwoLevelLayout layout, byte[] image, byte[] initial, int seed, OptionMap? more = null,
        bool asynchronous = false, int secondCrashes = 0) => new()
        {
            Image = image,
            InitialDisk = initial,
            Seed = seed,
            OpenAsync = (node, flags) => TwoLevelImages.OpenOverAsync(layout.Driver, node, flags, more),
            PeerCheck = layout.Driver == "qed" && TwoLevelImages.PeerOpens(layout) ? CrashTest.QemuCheck("qed") : null,
            CompletesAsynchronously = asynchronous,
            SecondCrashes = secondCrashes,
        };

    private static ValueTask<Graph> OpenAsync(TwoLevelLayout layout, CrashDevice device, OpenFlags flags) =>
        TwoLevelImages.OpenOverAsync(layout.Driver, new BlockNode("crash-image", "test", device), flags);
}
