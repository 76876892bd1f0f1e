using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Vhdx;
using ImageMount.Interop.Tests.Peers;
using ImageMount.TestSupport;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>
/// VHDX images to be damaged: one of qemu's, one with a log that waits, one with a parent. As small as they get.
/// </summary>
internal static class VhdxSeeds
{
    private const int Size = (2 << 20) + (3 * 512);
    private static readonly VhdxCreateOptions s_options = new() { BlockSize = 1 << 20, Size = Size };

    public static IReadOnlyList<SeedImage> Make() => MakeAsync().GetAwaiter().GetResult();

    private static async Task<IReadOnlyList<SeedImage>> MakeAsync()
    {
        PeerTool.Require();
        using var scratch = new Scratch();
        string path = scratch["image.vhdx"];
        PeerTool.Img("create", "-q", "-f", "vhdx", "-o", "block_size=1M", path, $"{Size}");
        PeerTool.Io(path, "vhdx", ["write -q -P 7 1000k 100k", "write -q -P 8 2M 512"]);

        MemoryDevice parent = await CreateAsync();
        await using (Graph graph = await OpenAsync(parent))
        {
            await graph.Root.WriteAsync(0, TestPattern.Make(3000, 0, 1));
        }

        byte[] withLog;
        MemoryDevice dirty = await CreateAsync();
        await using (Graph graph = await OpenAsync(dirty))
        {
            await graph.Root.WriteAsync(5000, TestPattern.Make(3000, 0, 2));
            await graph.Root.FlushAsync();
            withLog = (byte[])dirty.Content.Clone();
        }

        var child = new MemoryDevice(0);
        await using (Graph graph = await OpenAsync(parent))
        {
            await VhdxCreator.CreateChildAsync(
                new BlockNode("child", "test", child), s_options, graph.Root, ".\\parent.vhdx");
        }

        await using (Graph graph = await OpenAsync(child, "backing="))
        {
            await graph.Root.WriteAsync(7000, TestPattern.Make(3000, 0, 3));
        }

        return
        [
            new SeedImage("vhdx of qemu", File.ReadAllBytes(path)),
            new SeedImage("vhdx with a log", withLog),
            new SeedImage("vhdx child", child.Content)
            {
                Companions = new Dictionary<string, byte[]> { ["parent.vhdx"] = parent.Content },
            },
        ];
    }

    private static async Task<MemoryDevice> CreateAsync()
    {
        var device = new MemoryDevice(0);
        await VhdxCreator.CreateAsync(new BlockNode("new", "test", device), s_options);
        return device;
    }

    private static ValueTask<Graph> OpenAsync(MemoryDevice device, string? options = null) =>
        TestGraph.Opener.OpenOverAsync(
            "vhdx", new BlockNode("image", "test", device), TestGraph.Writable,
            options is null ? null : TestGraph.Parser.ParseImageOptions(options));
}
