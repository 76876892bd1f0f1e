using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>VMDKs for tests: made by qemu-img, or put together by hand.</summary>
internal static class VmdkImages
{
    public const int Grain = 64 << 10;

    /// <summary>All that qemu-img can make.</summary>
    public static readonly string[] Subformats =
        ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"];

    /// <summary>A disk with data, zeroes of whole grains, zeroes inside grains, and text that compresses well.</summary>
    public static byte[] Content(int length, int seed)
    {
        byte[] content = TestPattern.Make(length, 0, seed);
        var random = new Random(seed);
        for (int at = 0; at < length; at += Grain)
        {
            Span<byte> grain = content.AsSpan(at, Math.Min(Grain, length - at));
            switch (random.Next(5))
            {
                case 0:
                    grain.Clear();
                    break;
                case 1:
                    grain[(grain.Length / 4)..(grain.Length / 2)].Clear();
                    break;
                case 2:
                    grain.Fill((byte)random.Next(1, 256));
                    break;
                default:
                    break;
            }
        }

        return content;
    }

    /// <summary>An image with this content, written by qemu-img in one go.</summary>
    public static string Convert(TempDir dir, string name, byte[] content, params string[] options)
    {
        string raw = dir.Write(name + ".raw", content);
        string path = dir.File(name + ".vmdk");
        Qemu.Img("convert", "-f", "raw", "-O", "vmdk", "-o", string.Join(',', options), raw, path);
        return path;
    }

    /// <summary>An image that qemu-io wrote in pieces, in disorder, so that grains lie in disorder too.</summary>
    public static string Shuffled(TempDir dir, string name, byte[] content, params string[] options)
    {
        string path = dir.File(name + ".vmdk");
        Qemu.Img("create", "-q", "-f", "vmdk", "-o", string.Join(',', options), path, $"{content.Length}");
        int[] order = [.. Enumerable.Range(0, (content.Length + Grain - 1) / Grain)];
        new Random(content.Length).Shuffle(order);
        var commands = new List<string>();
        foreach (int grain in order)
        {
            int at = grain * Grain;
            int count = Math.Min(Grain, content.Length - at);
            if (content.AsSpan(at, count).ContainsAnyExcept((byte)0))
            {
                string piece = dir.Write($"{name}.{grain}", content.AsSpan(at, count));
                commands.Add($"write -q -s {piece} {at} {count}");
            }
        }

        foreach (string[] some in commands.Chunk(200))
        {
            Qemu.Io("vmdk", path, some);
        }

        return path;
    }

    /// <summary>The content as qemu-img reads it.</summary>
    public static byte[] ReadByPeer(TempDir dir, string path)
    {
        string raw = dir.File("peer.raw");
        File.Delete(raw);
        Qemu.Img("convert", "-f", "vmdk", "-O", "raw", path, raw);
        return File.ReadAllBytes(raw);
    }

    /// <summary>Everything on a disk.</summary>
    public static async Task<byte[]> ReadAllAsync(BlockNode disk, int step = 1 << 20)
    {
        var bytes = new byte[disk.Length];
        for (int at = 0; at < bytes.Length; at += step)
        {
            await disk.ReadAsync(at, bytes.AsMemory(at, Math.Min(step, bytes.Length - at)));
        }

        return bytes;
    }

    /// <summary>Reads at every kind of alignment and compares.</summary>
    public static async Task AssertReadsAsync(BlockNode disk, byte[] content, string context)
    {
        Assert.Equal(content.Length, disk.Length);
        foreach (int step in new[] { 1 << 20, 4096, 77_777, (64 << 10) - 1 })
        {
            byte[] all = await ReadAllAsync(disk, step);
            TestPattern.AssertEqual(content, all, 0, $"{context}, steps of {step}");
        }

        const int Seed = 99;
        var random = new Random(Seed);
        var buffer = new byte[300_000];
        for (int i = 0; i < 500; i++)
        {
            int count = random.Next(1, random.Next(2) == 0 ? 2000 : Math.Min(buffer.Length, content.Length));
            int at = random.Next(0, content.Length - count + 1);
            await disk.ReadAsync(at, buffer.AsMemory(0, count));
            TestPattern.AssertEqual(
                content.AsSpan(at, count), buffer.AsSpan(0, count), at, $"{context}, seed {Seed}, read {i}");
        }

        await AssertMapAsync(disk, content, context);
    }

    /// <summary>What the map calls zero is zero, and it covers everything.</summary>
    public static async Task AssertMapAsync(BlockNode disk, byte[] content, string context)
    {
        long at = 0;
        while (at < disk.Length)
        {
            BlockExtent extent = await disk.MapAsync(at, disk.Length - at);
            Assert.False(
                extent.IsZero && content.AsSpan((int)at, (int)extent.Length).ContainsAnyExcept((byte)0),
                $"{context}: mapped as zero at 0x{at:x}");
            at += extent.Length;
        }

        Assert.Equal(disk.Length, at);
    }

    public static async Task<CheckReport> CheckAsync(Graph graph) =>
        await ((ICheckable)graph.Image.Device).CheckAsync(default);

    public static async Task AssertCleanAsync(Graph graph)
    {
        CheckReport report = await CheckAsync(graph);
        Assert.True(report is { Corruptions: 0, CheckErrors: 0 }, string.Join('\n', report.Problems));
    }
}
