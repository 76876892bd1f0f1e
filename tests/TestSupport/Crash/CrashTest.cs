using System.Text;

namespace ImageMount.TestSupport.Crash;

/// <summary>
/// Runs a workload on an image in a simulated file, then cuts the power at every single change of the file and looks
/// at what is left: every sector must be what the last completed flush promised, or something written later; the
/// driver's own check must find no corruption; the image must be usable for further writing; a peer's check may be
/// asked too. Some of the states are opened for writing and the power is cut again, during what opening repairs and
/// during a few writes: then every sector must be what it was before, or what those writes made of it.
/// </summary>
public sealed class CrashTest
{
    private static readonly int s_factor = Factor();

    /// <summary>The image file before the workload.</summary>
    public required byte[] Image { get; init; }

    /// <summary>Its name, which matters where other files refer to it or a peer looks at it.</summary>
    public string ImageName { get; init; } = "left.img";

    /// <summary>
    /// Other files that the image is made of, by name; <see cref="OpenAsync"/> then asks <see cref="CrashFiles.Of"/>.
    /// </summary>
    public IReadOnlyList<(string Name, byte[] Content)> MoreFiles { get; init; } = [];

    /// <summary>The disk's content in it.</summary>
    public required byte[] InitialDisk { get; init; }

    /// <summary>Opens the image through the driver under test.</summary>
    public required Func<BlockNode, OpenFlags, ValueTask<Graph>> OpenAsync { get; init; }

    /// <summary>Seed of the workload and of the lost sectors.</summary>
    public required int Seed { get; init; }

    /// <summary>
    /// How many seeded mixtures of lost and kept sectors are tried at each cut, besides all and none.
    /// </summary>
    public int MixturesPerCut { get; init; } = 2;

    /// <summary>Flags for running the workload and for reopening.</summary>
    public OpenFlags Flags { get; init; } = TestGraph.Writable;

    /// <summary>
    /// Called with a file that holds what a crash left; the text says what a peer finds wrong, null nothing.
    /// </summary>
    public Func<string, string?>? PeerCheck { get; init; }

    /// <summary>
    /// Another view of the disk, to which the same applies: a data file that is a raw image too.
    /// </summary>
    public Func<CrashFiles, byte[]>? OtherView { get; init; }

    /// <summary>How many of the states are shown to <see cref="PeerCheck"/>.</summary>
    public int PeerChecks { get; init; } = 16;

    /// <summary>
    /// In how many of the states the power is cut a second time. IMAGEMOUNT_CRASH multiplies it, and the mixtures per
    /// cut.
    /// </summary>
    public int SecondCrashes { get; init; }

    /// <summary>How many changes opening for writing made in the states where the power was cut a second time.</summary>
    public int RecoveryChanges { get; private set; }

    /// <summary>True: the simulated file answers on other threads.</summary>
    public bool CompletesAsynchronously { get; init; }

    /// <summary>What PeerCheck can be: qemu-img's check finds nothing, or leaks at most.</summary>
    public static Func<string, string?> QemuCheck(string format) => path =>
    {
        ToolResult result = Qemu.Run("qemu-img", "check", "-f", format, path);
        return result.ExitCode is 0 or 3 ? null : $"qemu-img check gave {result.ExitCode}: {result.All}";
    };

    /// <summary>Runs the test; a failure says seed, cut, policy and sector.</summary>
    /// <returns>How many states were looked at.</returns>
    public async Task<int> RunAsync(Func<CrashWorkload, Task> workload)
    {
        var files = new CrashFiles([(ImageName, Image), .. MoreFiles]);
        CrashWorkload guest = await PlayAsync(files, InitialDisk, Seed, workload).ConfigureAwait(false);
        var replay = new CrashReplay(files);
        int states = 0;
        int perCut = 2 + (MixturesPerCut * s_factor);
        int all = (replay.Log.Count + 1) * perCut;
        int peerEvery = Math.Max(1, all / Math.Max(1, PeerChecks));
        HashSet<int> twice = ChooseStates(all);
        for (int cut = 0; cut <= replay.Log.Count; cut++)
        {
            replay.MoveTo(cut);
            for (int variant = 0; variant < perCut; variant++, states++)
            {
                CrashPolicy policy = PolicyOf(variant);
                int seed = unchecked((Seed * 31) + variant);
                CrashFiles left = replay.Recover(policy, seed);
                string? wrong = await InspectAsync(left, guest, cut, states % 2 == 0).ConfigureAwait(false);
                if (wrong is null && PeerCheck is not null && states % peerEvery == 0)
                {
                    wrong = AskPeer(replay.Recover(policy, seed));
                }

                if (wrong is null && twice.Contains(states))
                {
                    wrong = await CrashAgainAsync(replay.Recover(policy, seed), seed + cut).ConfigureAwait(false);
                }

                if (wrong is not null)
                {
                    Assert.Fail($"{wrong}\nseed {Seed}, policy {policy} (variant {variant})\n{Around(replay.Log, cut)}");
                }
            }
        }

        return states;
    }

    private static int Factor() =>
        int.TryParse(Environment.GetEnvironmentVariable("IMAGEMOUNT_CRASH"), out int factor) && factor > 0 ? factor : 1;

    private static CrashPolicy PolicyOf(int variant) => variant switch
    {
        0 => CrashPolicy.DropAll,
        1 => CrashPolicy.KeepAll,
        _ => CrashPolicy.Seeded,
    };

    /// <summary>Which of the states see a second crash: at random, but spread over all cuts.</summary>
    private HashSet<int> ChooseStates(int all)
    {
        var random = new Random(Seed);
        int wanted = Math.Min(SecondCrashes * s_factor, all);
        return [.. Enumerable.Range(0, wanted).Select(i =>
        {
            int from = (int)((long)all * i / wanted);
            return random.Next(from, (int)((long)all * (i + 1) / wanted));
        })];
    }

    private async Task<CrashWorkload> PlayAsync(
        CrashFiles files, byte[] disk, int seed, Func<CrashWorkload, Task> workload)
    {
        foreach (CrashDevice device in files.Devices)
        {
            device.CompletesAsynchronously = CompletesAsynchronously;
        }

        Graph graph = await OpenAsync(files.MakeNode(), Flags).ConfigureAwait(false);
        var guest = new CrashWorkload(graph.Root, files.Main, disk, seed);
        await workload(guest).ConfigureAwait(false);
        GuestEvent close = guest.BeginFlush();
        await graph.CloseAsync().ConfigureAwait(false);
        guest.End(close);
        return guest;
    }

    /// <summary>
    /// Opens what a crash left for writing, writes a little, and cuts the power at each change of that. What is read
    /// before is what has to be there afterwards: the guest has seen it.
    /// </summary>
    private async Task<string?> CrashAgainAsync(CrashFiles left, int seed)
    {
        Graph graph = await OpenAsync(left.MakeNode(), Flags with { Writable = false }).ConfigureAwait(false);
        byte[] disk = await ReadAllAsync(graph.Root).ConfigureAwait(false);
        await graph.CloseAsync().ConfigureAwait(false);
        if (left.OperationCount != 0)
        {
            return "opening for reading changed the file";
        }

        int recovery = 0;
        CrashWorkload guest = await PlayAsync(left, disk, seed, async guest =>
        {
            recovery = left.OperationCount;
            await guest.RunMixedAsync(3, 8 << 10).ConfigureAwait(false);
            await guest.FlushAsync().ConfigureAwait(false);
        }).ConfigureAwait(false);
        RecoveryChanges += recovery;
        var replay = new CrashReplay(left);
        int states = 0;
        for (int cut = 0; cut <= replay.Log.Count; cut++)
        {
            replay.MoveTo(cut);
            for (int variant = 0; variant < 3; variant++, states++)
            {
                CrashPolicy policy = PolicyOf(variant);
                string? wrong = await InspectAsync(replay.Recover(policy, seed), guest, cut, states % 2 == 0)
                    .ConfigureAwait(false);
                if (wrong is not null)
                {
                    return $"{wrong}\nSecond crash, policy {policy}, seed {seed}; the first {recovery} changes were made "
                        + $"by opening; {Around(replay.Log, cut)}\nFirst crash:";
                }
            }
        }

        return null;
    }

    private async Task<string?> InspectAsync(CrashFiles left, CrashWorkload guest, int cut, bool writable)
    {
        if (OtherView is not null && guest.Verify(OtherView(left), cut) is { } otherwise)
        {
            return $"in the other view, {otherwise}";
        }

        try
        {
            Graph graph = await OpenAsync(left.MakeNode(), Flags with { Writable = writable }).ConfigureAwait(false);
            string? wrong;
            try
            {
                wrong = await InspectAsync(graph, guest, cut, writable).ConfigureAwait(false);
            }
            finally
            {
                await graph.CloseAsync().ConfigureAwait(false);
            }

            return wrong;
        }
        catch (BlockException e)
        {
            return $"after a crash at change {cut} the image fails: {e.Describe()}";
        }
    }

    private static async Task<string?> InspectAsync(Graph graph, CrashWorkload guest, int cut, bool writable)
    {
        byte[] disk = await ReadAllAsync(graph.Root).ConfigureAwait(false);
        string? wrong = guest.Verify(disk, cut);
        if (wrong is not null || !writable)
        {
            return wrong;
        }

        // Opening for writing has repaired what may be repaired; from here on everything must be sound.
        wrong = await CheckAsync(graph, $"after a crash at change {cut}").ConfigureAwait(false);
        if (wrong is not null)
        {
            return wrong;
        }

        const int Count = 24 * SectorStore.SectorSize;
        int count = (int)Math.Min(Count, graph.Root.Length);
        long offset = (graph.Root.Length - count) / 2 / SectorStore.SectorSize * SectorStore.SectorSize;
        TestPattern.Fill(disk.AsSpan((int)offset, count), offset, cut);
        await graph.Root.WriteAsync(offset, disk.AsMemory((int)offset, count)).ConfigureAwait(false);
        await graph.Root.FlushAsync().ConfigureAwait(false);
        byte[] again = await ReadAllAsync(graph.Root).ConfigureAwait(false);
        int same = disk.AsSpan().CommonPrefixLength(again);
        return same < disk.Length
            ? $"a write at 0x{offset:x}+0x{count:x} after a crash at change {cut} changed or lost byte 0x{same:x}"
            : await CheckAsync(graph, $"after a crash at change {cut} and a write").ConfigureAwait(false);
    }

    private static async Task<string?> CheckAsync(Graph graph, string when)
    {
        if (graph.Image.Device is not ICheckable checkable)
        {
            return null;
        }

        CheckReport report = await checkable.CheckAsync(CancellationToken.None).ConfigureAwait(false);
        return report.Corruptions == 0 && report.CheckErrors == 0
            ? null
            : $"{when} the check finds {report.Corruptions} corruptions and {report.CheckErrors} errors:\n  "
                + string.Join("\n  ", report.Problems.Take(10));
    }

    private static async Task<byte[]> ReadAllAsync(BlockNode node)
    {
        var bytes = new byte[node.Length];
        for (int at = 0; at < bytes.Length; at += 1 << 20)
        {
            await node.ReadAsync(at, bytes.AsMemory(at, Math.Min(1 << 20, bytes.Length - at))).ConfigureAwait(false);
        }

        return bytes;
    }

    private string? AskPeer(CrashFiles left)
    {
        using var dir = new TempDir();
        return PeerCheck!(left.SaveTo(dir.Path));
    }

    private static string Around(IReadOnlyList<CrashOperation> log, int cut)
    {
        var text = new StringBuilder("changes of the file around the cut:\n");
        for (int i = Math.Max(0, cut - 12); i < Math.Min(log.Count, cut + 3); i++)
        {
            text.Append(i == cut ? "  -- cut --\n" : "").Append($"  {i}: {log[i]}\n");
        }

        return text.ToString();
    }
}
