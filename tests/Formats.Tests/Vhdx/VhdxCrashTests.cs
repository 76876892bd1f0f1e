using ImageMount.Formats.Vhdx;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.Vhdx;

/// <summary>
/// The power is cut at every change of the file: in the headers, the log, the tables and the payload. What is left is
/// read with the log replayed in memory, or replayed in the file and written on.
/// </summary>
public sealed class VhdxCrashTests
{
    private const int Size = (2 << 20) + (3 * 4096);

    [SkippableTheory]
    [InlineData("dynamic", 1)]
    [InlineData("dynamic-undefined", 5)]
    [InlineData("dynamic-4096", 3)]
    [InlineData("fixed", 4)]
    public async Task Mixed_workload(string layout, int seed)
    {
        byte[] content = TestPattern.Make((1 << 20) + 8192, 0, 99);
        byte[] image = await VhdxImages.CreateAsync(VhdxImages.Layouts[layout], Size);
        image = await VhdxImages.WriteAsync(image, 0, content);
        var initial = new byte[Size];
        content.CopyTo(initial, 0);

        // qemu knows no sectors of 4096 bytes.
        bool hasPeer = !layout.EndsWith("4096", StringComparison.Ordinal);
        CrashTest test = Test(image, initial, seed, hasPeer: hasPeer, secondCrashes: 1);
        await test.RunAsync(async guest =>
        {
            await guest.RunMixedAsync(8, 48 << 10);
            await BlocksComeAndGoAsync(guest);
        });
        if (layout != "fixed")
        {
            Assert.InRange(test.RecoveryChanges, 1, int.MaxValue); // Or the second crash met no replay of the log.
        }
    }

    [SkippableTheory]
    [InlineData(1)]
    public async Task Child_over_a_parent(int seed)
    {
        using var dir = new TempDir();
        var options = new VhdxCreateOptions { BlockSize = VhdxImages.Block };
        byte[] content = TestPattern.Make((1 << 20) + 512, 0, 5);
        byte[] parent = await VhdxImages.WriteAsync(await VhdxImages.CreateAsync(options, content.Length), 0, content);
        byte[] image = await VhdxImages.CreateChildAsync(parent, "parent.vhdx", Size, options);
        OptionMap more = VhdxImages.WithParent(dir.Write("parent.vhdx", parent));
        var initial = new byte[Size];
        content.CopyTo(initial, 0);
        await new CrashTest
        {
            Image = image,
            InitialDisk = initial,
            Seed = seed,
            MixturesPerCut = 1,
            OpenAsync = (node, flags) => TestGraph.Opener.OpenOverAsync("vhdx", node, flags, more),
        }.RunAsync(async guest =>
        {
            await guest.RunMixedAsync(9, 24 << 10);
            await BlocksComeAndGoAsync(guest);
        });
    }

    [SkippableTheory]
    [InlineData(3)]
    public async Task Many_requests_at_once(int seed)
    {
        const int Tasks = 3;
        const int Length = 2 << 20;
        byte[] image = await VhdxImages.CreateAsync(VhdxImages.Layouts["dynamic"], Length);
        await Test(image, new byte[Length], seed, asynchronous: true).RunAsync(
            guest => Task.WhenAll(Enumerable.Range(0, Tasks).Select(worker => Task.Run(async () =>
            {
                // Sectors of its own, in blocks that it shares with the others.
                var random = new Random((seed * 100) + worker);
                for (int i = 0; i < 7; i++)
                {
                    long own = (worker * 64 << 10) + (random.Next(64) * 512);
                    long offset = (random.Next(2) * (long)VhdxImages.Block) + own;
                    await guest.WriteAsync(offset, random.Next(1, 48) * 512);
                    if (random.Next(3) == 0)
                    {
                        await guest.FlushAsync();
                    }
                }
            }))));
    }

    [SkippableTheory]
    [InlineData(3)]
    public async Task Failing_disk_loses_nothing_that_was_flushed(int seed)
    {
        byte[] image = await VhdxImages.CreateAsync(VhdxImages.Layouts["dynamic"], Size);
        var failures = new Random(seed);
        await Test(image, new byte[Size], seed).RunAsync(async guest =>
        {
            guest.Device.Fail = (_, request) =>
            {
                lock (failures)
                {
                    return failures.Next(9) != 0 ? null
                        : request.Operation == TestOperation.Resize ? CrashDevice.NoSpace() : CrashDevice.IoError();
                }
            };
            for (int i = 0; i < 14; i++)
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

    /// <summary>Blocks are freed, made durable so that their places are used again, and written by others.</summary>
    private static async Task BlocksComeAndGoAsync(CrashWorkload guest)
    {
        for (int i = 0; i < 2; i++)
        {
            await guest.WriteAsync((i * (long)VhdxImages.Block) + 8192, 8192);
        }

        // Two places are free, but not durably: until then a crash brings back the blocks that had them.
        await guest.FlushAsync();
        await guest.ZeroAsync(0, VhdxImages.Block, ZeroFlags.MayUnmap);
        await guest.DiscardAsync(VhdxImages.Block, VhdxImages.Block);
        await guest.WriteAsync(VhdxImages.Block + 8192, 4096);
        await guest.FlushAsync();

        // Now they may be used.
        await guest.WriteAsync(16384, 4096);
        await guest.ZeroAsync(2L << 20, 3 * 4096);
        await guest.FlushAsync();
        await guest.WriteAsync(VhdxImages.Block + 4096, 4096, WriteFlags.Fua);
    }

    private static CrashTest Test(
        byte[] image, byte[] initial, int seed, bool asynchronous = false, bool hasPeer = true,
        int secondCrashes = 0) =>
        new()
        {
            Image = image,
            InitialDisk = initial,
            Seed = seed,
            OpenAsync = VhdxImages.OpenOverAsync,
            PeerCheck = hasPeer ? QemuReplays : null,
            PeerChecks = 6,
            SecondCrashes = secondCrashes,
            CompletesAsynchronously = asynchronous,
            MixturesPerCut = 1,
        };

    /// <summary>qemu replays the log of ours, and then finds nothing wrong.</summary>
    private static string? QemuReplays(string path)
    {
        ToolResult result = Qemu.Run("qemu-img", "check", "-r", "all", "-f", "vhdx", path);
        return result.ExitCode == 0 ? null : $"qemu-img check -r all gave {result.ExitCode}: {result.All}";
    }
}
