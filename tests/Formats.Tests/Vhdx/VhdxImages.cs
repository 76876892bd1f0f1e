using ImageMount.Formats.Vhdx;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Vhdx;

/// <summary>Images for the tests: made by our own creator, in memory.</summary>
internal static class VhdxImages
{
    /// <summary>Smallest blocks.</summary>
    public const int Block = 1 << 20;

    /// <summary>Kinds of disks with different tables; by name, so that a failing case can be read.</summary>
    public static readonly Dictionary<string, VhdxCreateOptions> Layouts = new()
    {
        ["dynamic"] = new() { BlockSize = Block },
        ["dynamic-undefined"] = new() { BlockSize = Block, BlockStateZero = false },
        ["dynamic-4096"] = new() { BlockSize = Block, LogicalSectorSize = 4096 },
        ["dynamic-2M"] = new() { BlockSize = 2 << 20, LogSize = 2 << 20 },
        ["fixed"] = new() { BlockSize = Block, Subformat = VhdxSubformat.Fixed },
    };

    /// <summary>An empty image.</summary>
    public static async Task<byte[]> CreateAsync(VhdxCreateOptions options, long size)
    {
        var device = new MemoryDevice(0);
        var node = new BlockNode("new", "test", device);
        await VhdxCreator.CreateAsync(node, options with { Size = size });
        return device.Content;
    }

    /// <summary>An empty differencing image over a parent.</summary>
    public static async Task<byte[]> CreateChildAsync(
        byte[] parent, string relativePath, long size, VhdxCreateOptions? options = null)
    {
        (Graph graph, _) = await OpenAsync(parent, TestGraph.ReadOnly);
        await using (graph)
        {
            var device = new MemoryDevice(0);
            var node = new BlockNode("new", "test", device);
            await VhdxCreator.CreateChildAsync(
                node, (options ?? new VhdxCreateOptions { BlockSize = Block }) with { Size = size }, graph.Root,
                relativePath);
            return device.Content;
        }
    }

    /// <summary>Opens an image that is in memory.</summary>
    public static async Task<(Graph Graph, MemoryDevice Device)> OpenAsync(
        byte[] image, OpenFlags? flags = null, OptionMap? options = null, bool asynchronous = false)
    {
        var device = new MemoryDevice(image)
        {
            Declared = BlockCapabilities.Write | BlockCapabilities.Resize | BlockCapabilities.Zero
                | BlockCapabilities.Discard,
            CompletesAsynchronously = asynchronous,
        };
        var node = new BlockNode("image", "test", device);
        return (await TestGraph.Opener.OpenOverAsync("vhdx", node, flags ?? TestGraph.Writable, options), device);
    }

    /// <summary>Opens an image over a node.</summary>
    public static ValueTask<Graph> OpenOverAsync(BlockNode file, OpenFlags flags) =>
        TestGraph.Opener.OpenOverAsync("vhdx", file, flags);

    /// <summary>An image with this content, written through the driver.</summary>
    public static async Task<byte[]> WriteAsync(byte[] image, long offset, byte[] content, OptionMap? options = null)
    {
        (Graph graph, MemoryDevice device) = await OpenAsync(image, null, options);
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

    /// <summary>The whole disk of an image, opened for reading.</summary>
    public static async Task<byte[]> ReadAllAsync(byte[] image, OptionMap? options = null)
    {
        (Graph graph, _) = await OpenAsync(image, TestGraph.ReadOnly, options);
        await using (graph)
        {
            return await ReadAllAsync(graph.Root);
        }
    }

    /// <summary>Our check of an image.</summary>
    public static async Task<CheckReport> CheckAsync(byte[] image, OptionMap? options = null)
    {
        (Graph graph, _) = await OpenAsync(image, TestGraph.ReadOnly, options);
        await using (graph)
        {
            return await ((ICheckable)graph.Root.Device).CheckAsync(CancellationToken.None);
        }
    }

    /// <summary>Our check finds no corruption.</summary>
    public static async Task AssertSoundAsync(byte[] image, string context, OptionMap? options = null)
    {
        CheckReport report = await CheckAsync(image, options);
        Assert.True(
            report.Corruptions == 0 && report.CheckErrors == 0,
            $"{context}: {report.Corruptions} corruptions:\n{string.Join("\n", report.Problems)}");
    }

    /// <summary>Options that give a parent in a file; its data write GUID is then not insisted on.</summary>
    public static OptionMap WithParent(string path)
    {
        var options = new OptionMap();
        options.SetPath("backing.driver", "vhdx");
        options.SetPath("backing.file.driver", "file");
        options.SetPath("backing.file.filename", path);
        return options;
    }

    /// <summary>The failure of opening an image.</summary>
    public static async Task<BlockException> RefusedAsync(byte[] image, OpenFlags? flags = null) =>
        await Assert.ThrowsAsync<BlockException>(async () =>
        {
            (Graph graph, _) = await OpenAsync(image, flags ?? TestGraph.ReadOnly);
            await graph.CloseAsync();
        });
}
