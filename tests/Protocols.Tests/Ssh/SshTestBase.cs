using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;

namespace ImageMount.Protocols.Tests.Ssh;

/// <summary>What tests of the SSH driver share: a folder, a disk's content, and opening.</summary>
public abstract class SshTestBase : IDisposable
{
    /// <summary>Longest that anything here may take.</summary>
    protected static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    protected TempDir Dir { get; } = new();

    public virtual void Dispose()
    {
        Dir.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>An odd size.</summary>
    protected static byte[] MakeContent(int size = 700_001, long seed = 1) => TestPattern.Make(size, 0, seed);

    /// <summary>Opens "ssh" alone, with options on top of a URI.</summary>
    protected static async Task<Graph> OpenAsync(
        string uri, (string Key, string Value)[] options, bool writable = false, SecretStore? secrets = null)
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

    /// <summary>It must fail, with a kind and words.</summary>
    protected static async Task<BlockException> AssertRefusedAsync(BlockErrorKind kind, string words, Func<Task> act)
    {
        BlockException e = await Assert.ThrowsAsync<BlockException>(act);
        Assert.True(
            e.Kind == kind && e.Describe().Contains(words, StringComparison.OrdinalIgnoreCase),
            $"expected {kind} '{words}', found {e.Kind} '{e.Describe()}'");
        return e;
    }
}
