using ImageMount.Formats.Qcow2;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.Qcow2;

/// <summary>
/// The power is cut at every change of the file. Small clusters make tables overflow within a few requests, so growth
/// of the L1 table, the refcount blocks and the refcount table happens in the middle of ordinary writing.
/// </summary>
public sealed class Qcow2CrashTests
{
    public static TheoryData<string, int> Cases()
    {
        var cases = new TheoryData<string, int>();
        foreach (string layout in Qcow2Images.Layouts.Keys.Where(name => name != "2M"))
        {
            cases.Add(layout, 1);
            cases.Add(layout, 2);
        }

        return cases;
    }

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Mixed_workload(string layout, int seed)
    {
        Qcow2CreateOptions options = Qcow2Images.Layouts[layout];
        int size = Math.Max(192 << 10, options.ClusterSize * 3) + 512 * 3;
        byte[] image = await Qcow2Images.CreateAsync(options, size);
        var initial = new byte[size];
        TestPattern.Make(size / 2, 0, 99).CopyTo(initial, 0);
        image = await Qcow2Images.WriteAsync(image, 0, initial[..(size / 2)]);
        await Test(image, initial, seed).RunAsync(guest => guest.RunMixedAsync(40, 40 << 10));
    }

    [SkippableTheory]
    [InlineData("512", 3)]
    [InlineData("512", 6)]
    [InlineData("extended-16k", 4)]
    [InlineData("v2-512", 5)]
    public async Task Many_requests_at_once(string layout, int seed)
    {
        // Each task has its own sectors, but they share tables, flushes and free clusters: what one frees another gets.
        Qcow2CreateOptions options = Qcow2Images.Layouts[layout];
        const int Size = 96 << 10;
        const int Tasks = 6;
        byte[] content = TestPattern.Make(Size, 0, 3);
        byte[] image = await Qcow2Images.WriteAsync(await Qcow2Images.CreateAsync(options, Size), 0, content);
        CrashTest test = Test(image, content, seed, asynchronous: true);
        await test.RunAsync(guest => Task.WhenAll(Enumerable.Range(0, Tasks).Select(worker => Task.Run(async () =>
        {
            var random = new Random((seed * 100) + worker);
            const int Sectors = Size / 512 / Tasks;
            for (int i = 0; i < 30; i++)
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
                    case 2 or 3:
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
    [InlineData("512-refcount64", 1)]
    [InlineData("512-refcount64", 2)]
    public async Task Refcount_table_grows(string layout, int seed)
    {
        // With 64-bit counts a table of one cluster ends at 2 MiB; this disk needs more.
        Qcow2CreateOptions options = Qcow2Images.Layouts[layout];
        const int Size = 2100 << 10;
        byte[] image = await Qcow2Images.CreateAsync(options, Size);
        byte[] content = TestPattern.Make(1700 << 10, 0, 7);
        image = await Qcow2Images.WriteAsync(image, 0, content);
        int before = (await HeaderAsync(image)).RefcountTableClusters;
        var initial = new byte[Size];
        content.CopyTo(initial, 0);
        CrashTest test = Test(image, initial, seed, mixtures: 1);
        await test.RunAsync(async guest =>
        {
            for (int at = content.Length; at < Size; at += 50 << 10)
            {
                await guest.WriteAsync(at, Math.Min(50 << 10, Size - at));
                await guest.FlushAsync();
            }

            Assert.True(
                (await HeaderAsync(guest.Device.ToArray())).RefcountTableClusters > before, "the table did not grow");
        });
    }

    [SkippableTheory]
    [InlineData("512", "", 1)]
    [InlineData("4k", "", 2)]
    [InlineData("64k", "", 3)]
    [InlineData("16k", "extended_l2=on", 4)]
    [InlineData("4k", "compat=0.10", 5)]
    [InlineData("512", "refcount_bits=2", 6)]
    public async Task Snapshots_survive_and_so_does_the_disk(string clusterSize, string more, int seed)
    {
        using var dir = new TempDir();
        const int Size = 256 << 10;
        byte[] content = TestPattern.Make(Size, 0, seed);
        string raw = dir.Write("content.raw", content);
        byte[] image = Qcow2Images.ByPeer(dir, path =>
        {
            string options = $"cluster_size={clusterSize}" + (more.Length > 0 ? "," + more : "");
            Qemu.Img("convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, path);
            Qemu.Img("snapshot", "-c", "one", path);
            Qemu.Io("qcow2", path, "write -P 7 10k 30k");
            Qemu.Img("snapshot", "-c", "two", path);
        });
        var initial = (byte[])content.Clone();
        initial.AsSpan(10 << 10, 30 << 10).Fill(7);
        CrashTest test = Test(image, initial, seed);
        test = new CrashTest
        {
            Image = test.Image,
            InitialDisk = test.InitialDisk,
            Seed = seed,
            PeerCheck = CrashTest.QemuCheck("qcow2"),
            OpenAsync = async (node, flags) =>
            {
                Graph graph = await Qcow2Images.OpenOverAsync(node, flags);
                byte[] one = await Qcow2Images.ReadAllAsync(await graph.OpenSnapshotAsync("one"));
                byte[] two = await Qcow2Images.ReadAllAsync(await graph.OpenSnapshotAsync("two"));
                TestPattern.AssertEqual(content, one, 0, "snapshot one");
                TestPattern.AssertEqual(initial, two, 0, "snapshot two");
                return graph;
            },
        };
        await test.RunAsync(guest => guest.RunMixedAsync(24, 24 << 10));
    }

    [SkippableTheory]
    [InlineData("4k-refcount8-lazy", 1)]
    [InlineData("512-refcount1", 2)]
    public async Task Counts_that_were_left_behind_are_rebuilt(string layout, int seed)
    {
        const int Size = 128 << 10;
        Qcow2CreateOptions options = Qcow2Images.Layouts[layout];
        var initial = new byte[Size];
        TestPattern.Make(Size / 2, 0, 99).CopyTo(initial, 0);
        byte[] image = await Qcow2Images.WriteAsync(
            await Qcow2Images.CreateAsync(options, Size), 0, initial[..(Size / 2)]);

        // As qemu leaves an image with lazy counts when it dies: marked dirty, blocks of counts behind the tables.
        Qcow2Header header = await HeaderAsync(image);
        long block = System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(
            image.AsSpan((int)header.RefcountTableOffset));
        image.AsSpan((int)block + 1, options.ClusterSize - 1).Clear();
        image[Qcow2Layout.IncompatibleField + 7] |= 1;
        var test = new CrashTest
        {
            Image = image,
            InitialDisk = initial,
            Seed = seed,
            SecondCrashes = 3,
            OpenAsync = Qcow2Images.OpenOverAsync,
            PeerCheck = path =>
            {
                ToolResult result = Qemu.Run("qemu-img", "check", "-r", "all", "-f", "qcow2", path);
                return result.ExitCode == 0 ? null : $"qemu-img check -r all gave {result.ExitCode}: {result.All}";
            },
        };
        await test.RunAsync(async guest =>
        {
            // Little besides the rebuilding, or second crashes would hardly ever meet an image that is still dirty.
            Assert.InRange(guest.Device.OperationCount, 3, int.MaxValue);
            await guest.WriteAsync(Size / 2, 2048);
            await guest.FlushAsync();
        });
        Assert.InRange(test.RecoveryChanges, 1, int.MaxValue);
    }

    [SkippableTheory]
    [InlineData("512", 1)]
    [InlineData("v2-512", 2)]
    [InlineData("extended-16k", 3)]
    [InlineData("default", 4)]
    public async Task Parent_never_shines_through_what_was_zeroed(string layout, int seed)
    {
        using var dir = new TempDir();
        Qcow2CreateOptions options = Qcow2Images.Layouts[layout];
        int size = Math.Max(96 << 10, options.ClusterSize * 3);
        byte[] parent = TestPattern.Make((size / 4 * 3) + 512, 0, 5);
        OptionMap more = Qcow2Images.WithParent(dir.Write("parent.raw", parent));
        var initial = new byte[size];
        parent.CopyTo(initial, 0);
        await new CrashTest
        {
            Image = await Qcow2Images.CreateAsync(options, size),
            InitialDisk = initial,
            Seed = seed,
            PeerCheck = CrashTest.QemuCheck("qcow2"),
            OpenAsync = (node, flags) => TestGraph.Opener.OpenOverAsync("qcow2", node, flags, more),
        }.RunAsync(guest => guest.RunMixedAsync(36, 20 << 10));
    }

    [SkippableTheory]
    [InlineData(3)]
    [InlineData(4)]
    public async Task Failing_disk_loses_nothing_that_was_flushed(int seed)
    {
        const int Size = 128 << 10;
        byte[] image = await Qcow2Images.CreateAsync(Qcow2Images.Layouts["512"], Size);
        var failures = new Random(seed);
        CrashTest test = Test(image, new byte[Size], seed);
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

    private static CrashTest Test(
        byte[] image, byte[] initial, int seed, bool asynchronous = false, int mixtures = 2) =>
        new()
        {
            Image = image,
            InitialDisk = initial,
            Seed = seed,
            OpenAsync = Qcow2Images.OpenOverAsync,
            PeerCheck = CrashTest.QemuCheck("qcow2"),
            CompletesAsynchronously = asynchronous,
            MixturesPerCut = mixtures,
        };

    private static ValueTask<Qcow2Header> HeaderAsync(byte[] image) =>
        Qcow2Header.ReadAsync(new BlockNode("image", "test", new MemoryDevice(image)), CancellationToken.None);
}
