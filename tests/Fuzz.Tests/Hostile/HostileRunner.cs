using ImageMount.Core.Block;
using ImageMount.Core.Info;
using Xunit.Sdk;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>What became of an image.</summary>
public enum Outcome
{
    /// <summary>It was refused when it was opened.</summary>
    Refused,

    /// <summary>It opened; something later was refused.</summary>
    Failed,

    /// <summary>Nothing was wrong with what we looked at.</summary>
    Served,
}

/// <summary>
/// Puts a hostile image through everything that a mount would do with it, on a thread of its own with a watchdog, and
/// accepts two ends only: it works, or it fails with <see cref="BlockException"/>.
/// </summary>
public sealed class HostileRunner(HostileFormat format)
{
    // A hang is a failure; a slow machine is not. No case takes a hundredth of this.
    private static readonly TimeSpan Watchdog = TimeSpan.FromSeconds(60);

    private const int MaxMapSteps = 3000;
    private const int Reads = 24;
    private const int Writes = 12;
    private const int MaxRequest = 48 << 10;

    /// <summary>GC memory that a case may allocate: a constant (tables, caches), and some copies of the file.</summary>
    private const long MaxAllocation = 96L << 20;

    /// <summary>Runs one case; fails the test with <paramref name="name"/> when it ends in any other way.</summary>
    public Outcome Run(string name, SeedImage image, byte[] bytes, int seed, bool writable)
    {
        Exception? failure = null;
        var outcome = Outcome.Refused;
        long allocated = 0;
        var thread = new Thread(() =>
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                outcome = ExerciseAsync(image, bytes, new Random(seed), writable).AsTask().GetAwaiter().GetResult();
            }
            catch (Exception e)
            {
                failure = e;
            }

            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        })
        { IsBackground = true };
        thread.Start();
        if (!thread.Join(Watchdog))
        {
            throw new XunitException($"{name}: no end within {Watchdog}");
        }

        if (failure is not null)
        {
            throw new XunitException($"{name}: {failure.GetType().Name} instead of BlockException", failure);
        }

        long limit = MaxAllocation + 8L * bytes.Length;
        Assert.True(allocated <= limit, $"{name}: allocated {allocated} bytes, more than {limit}");
        return outcome;
    }

    private async ValueTask<Outcome> ExerciseAsync(SeedImage image, byte[] bytes, Random random, bool writable)
    {
        var context = new HostileContext(image, bytes, writable, format.Secrets);
        BlockNode node;
        try
        {
            object options = Activator.CreateInstance(format.Driver.OptionsType)!;
            BlockDevice device = await format.Driver.OpenAsync(context, options, CancellationToken.None);
            node = new BlockNode(image.Name, format.Name, device, new NodeOptions { ReadOnly = !writable });
        }
        catch (BlockException e)
        {
            Assert.NotEmpty(e.Describe());
            await context.CloseAllAsync();
            return Outcome.Refused;
        }

        bool failed = !await SucceedsAsync(() => DescribeAsync(node));
        failed |= !await SucceedsAsync(() => CheckAsync(node));
        failed |= !await SucceedsAsync(() => MapAsync(node, random));
        for (int i = 0; i < Reads; i++)
        {
            failed |= !await SucceedsAsync(() => ReadAsync(node, random));
        }

        for (int i = 0; writable && node.CanWrite && i < Writes; i++)
        {
            failed |= !await SucceedsAsync(() => WriteAsync(node, random));
        }

        failed |= !await SucceedsAsync(() => SnapshotsAsync(node, random));
        failed |= !await SucceedsAsync(() => node.CloseAsync());
        await context.CloseAllAsync();
        return failed ? Outcome.Failed : Outcome.Served;
    }

    private static async ValueTask<bool> SucceedsAsync(Func<ValueTask> step)
    {
        try
        {
            await step();
            return true;
        }
        catch (BlockException e)
        {
            Assert.NotEmpty(e.Describe());
            return false;
        }
    }

    private static async ValueTask DescribeAsync(BlockNode node)
    {
        DeviceInfo info = await node.DescribeAsync();
        Assert.True(info.VirtualSize >= 0);
    }

    private static async ValueTask CheckAsync(BlockNode node)
    {
        if (node.Device is ICheckable checkable)
        {
            CheckReport report = await checkable.CheckAsync(CancellationToken.None);
            Assert.True(report.Problems.Count <= CheckReport.MaxProblems);
        }
    }

    private static async ValueTask MapAsync(BlockNode node, Random random)
    {
        long at = 0;
        for (int i = 0; i < MaxMapSteps && at < node.Length; i++)
        {
            long count = i % 3 == 0 ? node.Length - at : random.NextInt64(1, node.Length - at + 1);
            BlockExtent extent = await node.MapAsync(at, count);
            at += extent.Length;
        }
    }

    private static async ValueTask ReadAsync(BlockNode node, Random random)
    {
        (long offset, int count) = Range(node.Length, random);
        byte[] buffer = new byte[count];
        await node.ReadAsync(offset, buffer);
    }

    private static async ValueTask WriteAsync(BlockNode node, Random random)
    {
        (long offset, int count) = Range(node.Length, random);
        switch (random.Next(5))
        {
            case 0:
                await node.ZeroAsync(offset, count, random.Next(2) == 0 ? ZeroFlags.None : ZeroFlags.MayUnmap);
                break;
            case 1:
                await node.DiscardAsync(offset, count);
                break;
            case 2:
                await node.FlushAsync();
                break;
            default:
                byte[] buffer = new byte[count];
                random.NextBytes(buffer);
                await node.WriteAsync(offset, buffer);
                break;
        }
    }

    private static async ValueTask SnapshotsAsync(BlockNode node, Random random)
    {
        if (node.Device is not ISnapshotSource source)
        {
            return;
        }

        foreach (SnapshotInfo snapshot in source.Snapshots.Take(3))
        {
            BlockDevice device = await source.OpenSnapshotAsync(snapshot, CancellationToken.None);
            var view = new BlockNode(snapshot.Name, node.Driver, device, new NodeOptions { ReadOnly = true });
            try
            {
                await MapAsync(view, random);
                await ReadAsync(view, random);
            }
            finally
            {
                await view.CloseAsync();
            }
        }
    }

    /// <summary>Mostly near the beginning, where small images have their data; else anywhere, also at the very end.</summary>
    private static (long Offset, int Count) Range(long length, Random random)
    {
        long offset = random.Next(4) switch
        {
            0 => random.NextInt64(length + 1),
            1 => length - Math.Min(length, random.Next(MaxRequest)),
            _ => random.NextInt64(Math.Min(length, 4 << 20) + 1),
        };
        return (offset, (int)Math.Min(length - offset, random.Next(MaxRequest)));
    }
}
