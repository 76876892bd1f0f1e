using System.Buffers.Binary;
using ImageMount.Formats.Qed;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.TwoLevel;

/// <summary>Empty images of the formats with two levels of tables, in memory, and what their tests share.</summary>
internal static class TwoLevelImages
{
    /// <summary>Layouts by name; small ones need many tables for little data.</summary>
    public static readonly Dictionary<string, TwoLevelLayout> Layouts = new TwoLevelLayout[]
    {
        Qed("qed-4k", 4 << 10, 2),
        Qed("qed-4k-1", 4 << 10, 1),
        Qed("qed-8k-16", 8 << 10, 16),
        Qed("qed-64k", 64 << 10, 4),
        Qcow("qcow-512", 9, 6),
        Qcow("qcow-512-child", 9, 12),
        Qcow("qcow-4k", 12, 9),
        Qcow("qcow-64k", 16, 13),
        Qcow("qcow-aes-4k", 12, 9),
    }.ToDictionary(layout => layout.Name);

    public static TheoryData<string, bool, int> Cases(params int[] seeds)
    {
        var cases = new TheoryData<string, bool, int>();
        foreach (string name in Layouts.Keys)
        {
            foreach (int seed in seeds)
            {
                cases.Add(name, false, seed);
                cases.Add(name, true, seed);
            }
        }

        return cases;
    }

    /// <summary>A disk of some clusters and an odd end, within bounds that keep tests fast.</summary>
    public static int SizeFor(TwoLevelLayout layout, int atLeast) =>
        Math.Max(atLeast, layout.ClusterSize * 5) / 512 * 512 + (512 * 5);

    public static (BlockNode Node, MemoryDevice Device) Memory(byte[] image)
    {
        var device = new MemoryDevice(image)
        {
            Declared = BlockCapabilities.Write | BlockCapabilities.Resize | BlockCapabilities.Zero
                | BlockCapabilities.Discard | BlockCapabilities.Map,
        };
        return (new BlockNode("image", "test", device), device);
    }

    /// <summary>Opens an image that is in memory.</summary>
    public static async Task<(Graph Graph, MemoryDevice Device)> OpenAsync(
        string driver, byte[] image, OpenFlags? flags = null, OptionMap? options = null)
    {
        (BlockNode node, MemoryDevice device) = Memory(image);
        return (await OpenOverAsync(driver, node, flags ?? TestGraph.Writable, options), device);
    }

    /// <summary>Opens an image over a node, with the passphrase of those that need one.</summary>
    public static ValueTask<Graph> OpenOverAsync(
        string driver, BlockNode node, OpenFlags flags, OptionMap? options = null) =>
        TestGraph.Opener.OpenOverAsync(driver, node, flags with { Secrets = LuksImages.Secrets() }, options);

    /// <summary>Options that give an image a raw parent, whatever it says of itself.</summary>
    public static OptionMap WithParent(string path)
    {
        var options = new OptionMap();
        options.SetPath("backing.driver", "raw");
        options.SetPath("backing.file.driver", "file");
        options.SetPath("backing.file.filename", path);
        return options;
    }

    public static async Task<byte[]> ReadAllAsync(BlockNode disk)
    {
        var bytes = new byte[disk.Length];
        await disk.ReadAsync(0, bytes);
        return bytes;
    }

    /// <summary>An image with this content, written through the driver.</summary>
    public static async Task<byte[]> WriteAsync(string driver, byte[] image, long offset, byte[] content)
    {
        (Graph graph, MemoryDevice device) = await OpenAsync(driver, image);
        await using (graph)
        {
            await graph.Root.WriteAsync(offset, content);
        }

        return device.Content;
    }

    /// <summary>Our check finds nothing at all.</summary>
    public static async Task AssertCleanAsync(BlockNode disk, string context)
    {
        CheckReport report = await CheckAsync(disk);
        Assert.True(
            report is { Corruptions: 0, Leaks: 0, CheckErrors: 0 },
            $"{context}: {report.Corruptions} corruptions, {report.Leaks} leaks, {report.CheckErrors} errors:\n"
            + string.Join("\n", report.Problems));
    }

    public static async Task<CheckReport> CheckAsync(BlockNode disk) =>
        await ((ICheckable)disk.Device).CheckAsync(CancellationToken.None);

    /// <summary>
    /// qemu-img refuses tables of one cluster, even its own ("QED table offset is invalid": it takes a table that ends in
    /// the cluster where it begins for an overflow).
    /// </summary>
    public static bool PeerOpens(TwoLevelLayout layout) => layout.Name != "qed-4k-1";

    /// <summary>What qemu-img reads, and for qed that its check finds nothing, leaks included.</summary>
    public static void AssertPeerReads(TempDir dir, string driver, byte[] image, byte[] expected, string context)
    {
        string path = dir.Write("peer." + driver, image);
        if (driver == "qed")
        {
            ToolResult result = Qemu.Run("qemu-img", "check", "-f", "qed", path);
            Assert.True(result.ExitCode == 0, $"{context}: qemu-img check gave {result.ExitCode}: {result.All}");
        }

        byte[] found;
        if (driver == "qcow" && image[39] != 0)
        {
            found = LuksImages.ReadByQemu(dir, driver, path);
        }
        else
        {
            string raw = dir.File("by-peer.raw");
            Qemu.Img("convert", "-f", driver, "-O", "raw", path, raw);
            found = File.ReadAllBytes(raw);
        }

        TestPattern.AssertEqual(expected, found, 0, $"{context}: what qemu-img reads");
    }

    /// <summary>Writes, zeroes and discards at random.</summary>
    public static async Task ChurnAsync(BlockNode disk, Random random, int steps, int unit)
    {
        for (int i = 0; i < steps; i++)
        {
            long offset = random.NextInt64(0, disk.Length);
            if (random.Next(2) == 0)
            {
                offset = offset / unit * unit;
            }

            int count = (int)Math.Min(disk.Length - offset, random.Next(1, Math.Max(unit * 3, 100_000)));
            switch (random.Next(6))
            {
                case 0:
                    await disk.ZeroAsync(offset, count, ZeroFlags.MayUnmap);
                    break;
                case 1:
                    await disk.ZeroAsync(offset, count);
                    break;
                case 2:
                    await disk.DiscardAsync(offset, count);
                    break;
                case 3:
                    await disk.FlushAsync();
                    break;
                default:
                    await disk.WriteAsync(offset, TestPattern.Make(count, offset, random.Next()));
                    break;
            }
        }
    }

    private static TwoLevelLayout Qed(string name, int clusterSize, int tableSize) => new(
        name, "qed", clusterSize,
        size => MemoryCreateContext.MakeAsync(
            "qed", new QedCreateOptions { Size = size, ClusterSize = clusterSize, TableSize = tableSize }));

    /// <summary>Headers by hand, because the creator makes two geometries only.</summary>
    private static TwoLevelLayout Qcow(string name, int clusterBits, int l2Bits) => new(
        name, "qcow", 1 << clusterBits,
        size =>
        {
            long entries = (size + (1L << clusterBits + l2Bits) - 1) >> clusterBits + l2Bits;
            var image = new byte[48 + (entries * 8)];
            BinaryPrimitives.WriteUInt32BigEndian(image, 0x514649fb);
            image[7] = 1;
            BinaryPrimitives.WriteInt64BigEndian(image.AsSpan(24), size);
            image[32] = (byte)clusterBits;
            image[33] = (byte)l2Bits;
            image[39] = name.Contains("aes", StringComparison.Ordinal) ? (byte)1 : (byte)0;
            image[47] = 48;
            return Task.FromResult(image);
        });
}

/// <summary>A geometry of a format.</summary>
internal sealed record TwoLevelLayout(string Name, string Driver, int ClusterSize, Func<long, Task<byte[]>> CreateAsync);
