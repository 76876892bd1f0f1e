using ImageMount.Filters.RemoteCache;

namespace ImageMount.Filters.Tests.RemoteCache;

/// <summary>What tests of the remote cache share: a folder, a server, and reading it through the cache.</summary>
public abstract class CacheTestBase : IDisposable
{
    /// <summary>Longest that anything may take before a test counts as hanging.</summary>
    protected static readonly TimeSpan Limit = TimeSpan.FromMinutes(2);

    private readonly TempDir _dir = new();

    protected string Folder => _dir.File("cache");

    /// <summary>The files of the cache.</summary>
    protected string[] Files => Directory.Exists(Folder) ? Directory.GetFiles(Folder) : [];

    public void Dispose()
    {
        _dir.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>An odd size, with zeroes in the middle and at units' edges.</summary>
    protected static byte[] MakeContent(int size = 1_000_003, long seed = 1)
    {
        byte[] content = TestPattern.Make(size, 0, seed);
        content.AsSpan(size / 3, size / 4).Clear();
        return content;
    }

    /// <summary>Another process, as far as the cache can tell.</summary>
    private protected RemoteCacheLayer Layer(
        long limit = 1L << 30, string? unversioned = null, TimeProvider? clock = null) =>
        new(new RemoteCacheSettings(Folder, limit, unversioned), clock);

    protected static async Task<byte[]> ReadAsync(BlockNode node, long offset, int count)
    {
        var found = new byte[count];
        await node.ReadAsync(offset, found).AsTask().WaitAsync(Limit);
        return found;
    }

    /// <summary>Reads a part and compares.</summary>
    protected static async Task AssertPartAsync(byte[] content, BlockNode node, int offset, int count, string context) =>
        AssertBytes(content, offset, await ReadAsync(node, offset, count), context);

    protected static void AssertBytes(byte[] content, int offset, byte[] found, string context) =>
        TestPattern.AssertEqual(content.AsSpan(offset, found.Length), found, offset, context);

    protected static void SetMode(string path, int mode)
    {
        Assert.False(OperatingSystem.IsWindows());
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(path, (UnixFileMode)mode);
        }
    }

    protected static int ModeOf(string path) => OperatingSystem.IsWindows() ? 0 : (int)File.GetUnixFileMode(path);

    protected static async Task AssertSameAsync(byte[] expected, Graph graph, string context = "all")
    {
        Assert.Equal(expected.Length, graph.Root.Length);
        await AssertPartAsync(expected, graph.Root, 0, expected.Length, context);
    }

    /// <summary>Fills the cache with all of a file.</summary>
    private protected async Task WarmAsync(FakeServer server)
    {
        await using Graph graph = await server.OpenAsync(Layer());
        await AssertSameAsync(server.Content, graph, "cold");
        await AssertSameAsync(server.Content, graph, "cold, the zeroes");
    }

    protected static IRemoteCache CacheOf(Graph graph) =>
        graph.Nodes.Select(node => node.Device).OfType<IRemoteCache>().Single();

    /// <summary>Waits until a condition holds; by looking again, as nothing tells.</summary>
    protected static async Task UntilAsync(Func<bool> condition)
    {
        var clock = System.Diagnostics.Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(clock.Elapsed < Limit, "it does not happen");
            await Task.Yield();
        }
    }
}
