using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;

namespace ImageMount.Protocols.Tests.Nbd;

/// <summary>What tests of the NBD driver share: a folder, a disk's content, and opening.</summary>
public abstract class NbdTestBase : IDisposable
{
    /// <summary>Longest that anything here may take.</summary>
    protected static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    protected TempDir Dir { get; } = new();

    public virtual void Dispose()
    {
        Dir.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Data, zeroes, data: 8 pieces of 64 KiB and an odd half kilobyte.</summary>
    protected static byte[] MakeContent(long seed = 1)
    {
        byte[] content = TestPattern.Make((8 * 65536) + 512, 0, seed);
        content.AsSpan(65536, 65536).Clear();
        content.AsSpan(5 * 65536, 3 * 65536).Clear();
        return content;
    }

    /// <summary>A fake server, listening.</summary>
    protected FakeNbdServer Fake(Action<FakeNbdServer>? configure = null)
    {
        var server = new FakeNbdServer(Dir, MakeContent());
        configure?.Invoke(server);
        return server.Start();
    }

    /// <summary>Opens "nbd" alone, with options on top of a URI.</summary>
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

    /// <summary>Opening must fail, with a kind and words.</summary>
    protected static async Task<BlockException> AssertRefusedAsync(
        BlockErrorKind kind, string words, Func<Task> open)
    {
        BlockException e = await Assert.ThrowsAsync<BlockException>(open);
        Assert.True(
            e.Kind == kind && e.Describe().Contains(words, StringComparison.OrdinalIgnoreCase),
            $"expected {kind} '{words}', found {e.Kind} '{e.Describe()}'");
        return e;
    }
}
