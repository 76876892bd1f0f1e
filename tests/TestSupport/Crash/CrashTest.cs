using System.Text;

namespace ImageMount.TestSupport.Crash;

/// <summary>
/// Runs a workload on an image in a simulated file, then cuts the power at every single change of the file and looks
/// at what is left: every sector must be what the last completed flush promised, or something written later; the
/// driver's own check must find no corruption; the image must be usable for further writing; a peer's check may be
/// asked too.
/// </summary>
public sealed class CrashTest
{
    /// <summary>The image file before the workload.</summary>
    public required byte[] Image { get; init; }

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

    /// <summary>How many of the states are shown to <see cref="PeerCheck"/>.</summary>
    public int PeerChecks { get; init; } = 16;

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
        var device = new CrashDevice(Image) { CompletesAsynchronously = CompletesAsynchronously };
        var file = new BlockNode("crash-image", "test", device);
        Graph graph = await OpenAsync(file, Flags).ConfigureAwait(false);
        var guest = new CrashWorkload(graph.Root, device, InitialDisk, Seed);
        await workload(guest).ConfigureAwait(false);
        GuestEvent close = guest.BeginFlush();
        await graph.CloseAsync().ConfigureAwait(false);
        guest.End(close);

        IReadOnlyList<CrashOperation> log = device.Log;
        var replay = new CrashReplay(device, log);
        int states = 0;
        int perCut = 2 + MixturesPerCut;
        int peerEvery = Math.Max(1, (log.Count + 1) * perCut / Math.Max(1, PeerChecks));
        for (int cut = 0; cut <= log.Count; cut++)
        {
            replay.MoveTo(cut);
            for (int variant = 0; variant < perCut; variant++)
            {
                CrashPolicy policy = variant switch
                {
                    0 => CrashPolicy.DropAll,
                    1 => CrashPolicy.KeepAll,
                    _ => CrashPolicy.Seeded,
                };
                int seed = unchecked((Seed * 31) + variant);
                CrashDevice left = replay.Recover(policy, seed);
                string? wrong = await InspectAsync(left, guest, cut, states % 2 == 0).ConfigureAwait(false);
                if (wrong is null && PeerCheck is not null && states % peerEvery == 0)
                {
                    wrong = AskPeer(replay.Recover(policy, seed));
                }

                if (wrong is not null)
                {
                    Assert.Fail($"{wrong}\nseed {Seed}, policy {policy} (variant {variant})\n{Around(log, cut)}");
                }

                states++;
            }
        }

        return states;
    }

    private async Task<string?> InspectAsync(CrashDevice left, CrashWorkload guest, int cut, bool writable)
    {
        var file = new BlockNode("crash-image", "test", left);
        try
        {
            Graph graph = await OpenAsync(file, Flags with { Writable = writable }).ConfigureAwait(false);
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

    private string? AskPeer(CrashDevice left)
    {
        using var dir = new TempDir();
        string path = dir.File("left.img");
        left.SaveTo(path);
        return PeerCheck!(path);
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
