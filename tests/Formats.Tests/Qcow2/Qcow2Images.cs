using ImageMount.Formats.Qcow2;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Crash;

namespace ImageMount.Formats.Tests.Qcow2;

/// <summary>Images for the tests of qcow2: made by our own creator in memory, or by qemu-img through a file.</summary>
internal static class Qcow2Images
{
    /// <summary>
    /// Layouts that change how tables are read or written; by name, so that a failing case can be read.
    /// </summary>
    public static readonly Dictionary<string, Qcow2CreateOptions> Layouts = new()
    {
        ["default"] = new(),
        ["v2"] = new() { Compat = "0.10" },
        ["v2-512"] = new() { Compat = "0.10", ClusterSize = 512 },
        ["512"] = new() { ClusterSize = 512 },
        ["512-refcount1"] = new() { ClusterSize = 512, RefcountBits = 1 },
        ["512-refcount64"] = new() { ClusterSize = 512, RefcountBits = 64 },
        ["4k-refcount2"] = new() { ClusterSize = 4096, RefcountBits = 2 },
        ["4k-refcount8-lazy"] = new() { ClusterSize = 4096, RefcountBits = 8, LazyRefcounts = true },
        ["extended-16k"] = new() { ClusterSize = 16 << 10, ExtendedL2 = true },
        ["extended-64k"] = new() { ExtendedL2 = true },
        ["2M"] = new() { ClusterSize = 2 << 20 },
    };

    /// <summary>An empty image in memory.</summary>
    public static async Task<byte[]> CreateAsync(Qcow2CreateOptions options, long size)
    {
        var device = new MemoryDevice(0);
        var node = new BlockNode("new", "test", device);
        await Qcow2Creator.CreateAsync(node, options with { Size = size }, null, CancellationToken.None);
        return device.Content;
    }

    /// <summary>Opens an image that is in memory.</summary>
    public static async Task<(Graph Graph, MemoryDevice Device)> OpenAsync(
        byte[] image, OpenFlags? flags = null, OptionMap? options = null)
    {
        var device = new MemoryDevice(image)
        {
            Declared = BlockCapabilities.Write | BlockCapabilities.Resize | BlockCapabilities.Zero
                | BlockCapabilities.Discard,
        };
        var node = new BlockNode("image", "test", device);
        return (await TestGraph.Opener.OpenOverAsync("qcow2", node, flags ?? TestGraph.Writable, options), device);
    }

    /// <summary>An image with this content, written through the driver.</summary>
    public static async Task<byte[]> WriteAsync(byte[] image, long offset, byte[] content)
    {
        (Graph graph, MemoryDevice device) = await OpenAsync(image);
        await using (graph)
        {
            await graph.Root.WriteAsync(offset, content);
        }

        return device.Content;
    }

    /// <summary>The whole disk.</summary>
    public static async Task<byte[]> ReadAllAsync(BlockNode disk)
    {
        var bytes = new byte[disk.Length];
        await disk.ReadAsync(0, bytes);
        return bytes;
    }

    /// <summary>Our check finds nothing at all.</summary>
    public static async Task AssertCleanAsync(byte[] image, string context)
    {
        (Graph graph, _) = await OpenAsync(image, TestGraph.ReadOnly);
        await using (graph)
        {
            await AssertCleanAsync(graph.Root, context);
        }
    }

    /// <summary>Our check finds nothing at all.</summary>
    public static async Task AssertCleanAsync(BlockNode disk, string context)
    {
        CheckReport report = await ((ICheckable)disk.Device).CheckAsync(CancellationToken.None);
        Assert.True(
            report.Corruptions == 0 && report.Leaks == 0 && report.CheckErrors == 0,
            $"{context}: {report.Corruptions} corruptions, {report.Leaks} leaks, {report.CheckErrors} errors:\n"
            + string.Join("\n", report.Problems));
    }

    /// <summary>qemu-img's check finds nothing at all.</summary>
    public static void AssertPeerClean(byte[] image, TempDir dir, string context)
    {
        string path = dir.Write("checked.qcow2", image);
        ToolResult result = Qemu.Run("qemu-img", "check", "-f", "qcow2", path);
        Assert.True(result.ExitCode == 0, $"{context}: qemu-img check gave {result.ExitCode}: {result.All}");
    }

    /// <summary>An image in memory that a tool made: <paramref name="make"/> gets the path.</summary>
    public static byte[] ByPeer(TempDir dir, Action<string> make)
    {
        string path = dir.File("peer.qcow2");
        make(path);
        return File.ReadAllBytes(path);
    }

    /// <summary>Options that give an image a raw parent, whatever it says of itself.</summary>
    public static OptionMap WithParent(string path)
    {
        var options = new OptionMap();
        options.SetPath("backing.driver", "raw");
        options.SetPath("backing.file.driver", "file");
        options.SetPath("backing.file.filename", path);
        return options;
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

    /// <summary>Opens what a crash left.</summary>
    public static ValueTask<Graph> OpenOverAsync(BlockNode file, OpenFlags flags) =>
        TestGraph.Opener.OpenOverAsync("qcow2", file, flags);
}
