namespace ImageMount.TestSupport;

/// <summary>Reads a whole disk in every way and compares.</summary>
public static class DiskReads
{
    /// <summary>Everything on a disk.</summary>
    public static async Task<byte[]> AllAsync(BlockNode disk, int step = 1 << 20)
    {
        var bytes = new byte[disk.Length];
        for (int at = 0; at < bytes.Length; at += step)
        {
            await disk.ReadAsync(at, bytes.AsMemory(at, Math.Min(step, bytes.Length - at)));
        }

        return bytes;
    }

    /// <summary>In steps of several sizes, at random places, and by the map.</summary>
    public static async Task AssertAsync(BlockNode disk, byte[] content, string context, int seed = 99)
    {
        Assert.Equal(content.Length, disk.Length);
        foreach (int step in (int[])[1 << 20, 4096, 77_777])
        {
            byte[] all = await AllAsync(disk, step);
            TestPattern.AssertEqual(content, all, 0, $"{context}, steps of {step}");
        }

        var random = new Random(seed);
        var buffer = new byte[300_000];
        for (int i = 0; i < 300; i++)
        {
            int count = random.Next(1, Math.Min(random.Next(2) == 0 ? 2000 : buffer.Length, content.Length) + 1);
            int at = random.Next(0, content.Length - count + 1);
            await disk.ReadAsync(at, buffer.AsMemory(0, count));
            TestPattern.AssertEqual(
                content.AsSpan(at, count), buffer.AsSpan(0, count), at, $"{context}, seed {seed}, read {i}");
        }

        for (long at = 0; at < disk.Length;)
        {
            BlockExtent extent = await disk.MapAsync(at, disk.Length - at);
            Assert.False(
                extent.IsZero && content.AsSpan((int)at, (int)extent.Length).ContainsAnyExcept((byte)0),
                $"{context}: mapped as zero at 0x{at:x}");
            at += extent.Length;
        }
    }

    /// <summary>What a check says of the image at the top of a graph.</summary>
    public static async Task<CheckReport> CheckAsync(Graph graph) =>
        await ((ICheckable)graph.Image.Device).CheckAsync(default);

    /// <summary>The check finds nothing.</summary>
    public static async Task AssertCleanAsync(Graph graph, string context)
    {
        CheckReport report = await CheckAsync(graph);
        Assert.True(report is { Corruptions: 0, CheckErrors: 0 }, $"{context}: {string.Join('\n', report.Problems)}");
    }
}
