using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.BlockTables;

/// <summary>The power is cut at every change of an image with a flat table.</summary>
public sealed class FlatTableCrashTests
{
    public static TheoryData<string, int> Cases => FlatTableImages.Cases(2, variant => variant.Unit <= 64 << 10);

    public static TheoryData<string, int> LargeCases => FlatTableImages.Cases(1, variant => variant.PeerReads);

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Mixed_workload(string name, int seed)
    {
        using var dir = new TempDir();
        (CrashTest test, _) = await PrepareAsync(dir, name, seed, written: 60 << 10);
        int states = await test.RunAsync(guest => guest.RunMixedAsync(40, 40 << 10));
        Assert.InRange(states, 100, int.MaxValue);
    }

    [SkippableTheory]
    [MemberData(nameof(LargeCases))]
    public async Task Few_requests_on_images_as_programs_make_them(string name, int seed)
    {
        using var dir = new TempDir();
        (CrashTest test, _) = await PrepareAsync(dir, name, seed, written: 10 << 10);
        await test.RunAsync(guest => guest.RunMixedAsync(12, 300 << 10));
    }

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Many_requests_at_once(string name, int seed)
    {
        using var dir = new TempDir();
        const int Tasks = 6;
        const int Chunk = 1024;
        (CrashTest test, int size) = await PrepareAsync(dir, name, seed, written: 20 << 10, asynchronous: true);
        int chunks = size / Chunk / Tasks;
        await test.RunAsync(guest => Task.WhenAll(Enumerable.Range(0, Tasks).Select(worker => Task.Run(async () =>
        {
            // Each task has its own chunks, between those of the others: they share units, tables and flushes.
            var random = new Random((seed * 100) + worker);
            for (int i = 0; i < 14; i++)
            {
                long offset = ((random.Next(chunks) * Tasks) + worker) * (long)Chunk;
                int count = random.Next(1, 3) * 512;
                switch (random.Next(6))
                {
                    case 0:
                        await guest.FlushAsync();
                        break;
                    case 1:
                        await guest.ZeroAsync(offset, count, ZeroFlags.MayUnmap);
                        break;
                    default:
                        await guest.WriteAsync(offset, count);
                        break;
                }
            }
        }))));
    }

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public async Task Failing_disk_loses_nothing_that_was_flushed(string name, int seed)
    {
        using var dir = new TempDir();
        var failures = new Random(seed);
        (CrashTest test, _) = await PrepareAsync(dir, name, seed, written: 20 << 10);
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
            for (int i = 0; i < 30; i++)
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

    private static async Task<(CrashTest Test, int Size)> PrepareAsync(
        TempDir dir, string name, int seed, int written, bool asynchronous = false)
    {
        FlatTableVariant variant = FlatTableImages.Variants[name];
        int size = variant.DiskSize;
        var initial = new byte[size];
        OptionMap? more = null;
        if (variant.HasParent)
        {
            byte[] parent = TestPattern.Make((size / 4 * 3) + 700, 0, seed);
            parent.CopyTo(initial, 0);
            more = FlatTableImages.WithParent(dir.Write("parent.raw", parent));
        }

        (Graph graph, MemoryDevice device) = await FlatTableImages.OpenAsync(
            variant.Format, await variant.Make(size), TestGraph.Writable, more);
        await using (graph)
        {
            TestPattern.Make(written, size / 2, 99).CopyTo(initial, size / 2);
            await graph.Root.WriteAsync(size / 2, initial.AsMemory(size / 2, written));
        }

        return (new CrashTest
        {
            Image = device.Content,
            InitialDisk = initial,
            Seed = seed,
            OpenAsync = (file, flags) => TestGraph.Opener.OpenOverAsync(variant.Format, file, flags, more),
            PeerCheck = variant.PeerReads ? path => AskPeer(variant, path) : null,
            CompletesAsynchronously = asynchronous,
            MixturesPerCut = 2,
        }, size);
    }

    private static string? AskPeer(FlatTableVariant variant, string path)
    {
        ToolResult result = Qemu.Run("qemu-img", "check", "-f", variant.Format, path);
        bool isKnown = result.ExitCode is 0 or 3 or 63
            || (variant.PeerSaysAfterCrash is { } text && result.All.Contains(text, StringComparison.Ordinal));
        return isKnown ? null : $"qemu-img check gave {result.ExitCode}: {result.All}";
    }
}
