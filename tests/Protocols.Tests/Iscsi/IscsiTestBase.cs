using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Protocols.Tests.Iscsi;

/// <summary>What tests of the iSCSI driver share: a folder, a disk's content, targets, and opening.</summary>
public abstract class IscsiTestBase : IDisposable
{
    /// <summary>Longest that anything here may take.</summary>
    protected static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly List<IDisposable> _servers = [];

    protected TempDir Dir { get; } = new();

    public void Dispose()
    {
        _servers.ForEach(server => server.Dispose());
        Dir.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Data, zeroes, data, zeroes, a little data: a megabyte and 32 KiB.</summary>
    protected static byte[] MakeContent(long seed = 1)
    {
        byte[] content = TestPattern.Make((1 << 20) + 32768, 0, seed);
        content.AsSpan(65536, 65536).Clear();
        content.AsSpan(5 * 65536, 8 * 65536).Clear();
        return content;
    }

    /// <summary>Ended with the test.</summary>
    protected T Keep<T>(T server)
        where T : IDisposable
    {
        _servers.Add(server);
        return server;
    }

    /// <summary>Opens "iscsi" alone, with options on top of a URI.</summary>
    protected static async Task<Graph> OpenAsync(
        string uri, bool writable = false, SecretStore? secrets = null, params (string Key, string Value)[] options)
    {
        OptionMap map = TestGraph.Parser.ParseProtocol(uri);
        foreach ((string key, string value) in options)
        {
            map.Set(key, value);
        }

        var flags = new OpenFlags { Writable = writable, Secrets = secrets ?? new SecretStore() };
        return await TestGraph.Opener.OpenAsync(map, flags).AsTask().WaitAsync(Limit);
    }

    /// <summary>Reads all and compares.</summary>
    protected static async Task AssertContentAsync(BlockNode disk, byte[] expected, string context)
    {
        Assert.Equal(expected.Length, disk.Length);
        var found = new byte[expected.Length];
        await disk.ReadAsync(0, found).AsTask().WaitAsync(Limit);
        TestPattern.AssertEqual(expected, found, 0, context);
    }

    /// <summary>Something must fail, with a kind and words.</summary>
    protected static async Task<BlockException> AssertRefusedAsync(
        BlockErrorKind kind, string words, Func<Task> act)
    {
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => act().WaitAsync(Limit));
        Assert.True(
            e.Kind == kind && e.Describe().Contains(words, StringComparison.OrdinalIgnoreCase),
            $"expected {kind} '{words}', found {e.Kind} '{e.Describe()}'");
        return e;
    }

    /// <summary>A secret of each name.</summary>
    protected static SecretStore Secrets(params (string Id, string Text)[] secrets)
    {
        var store = new SecretStore();
        foreach ((string id, string text) in secrets)
        {
            store.Add(id, new Secret(System.Text.Encoding.UTF8.GetBytes(text)));
        }

        return store;
    }
}
