using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Protocols.Ssh;
using ImageMount.TestSupport;

namespace ImageMount.Protocols.Tests.Ssh;

/// <summary>Opening a disk over <see cref="FakeSftpServer"/>.</summary>
public abstract class SftpTestBase
{
    protected static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    internal static readonly SshOptions Options = new()
    {
        Host = "fake",
        Path = "/disk",
        Sessions = 1,
        Timeout = 20,
        ReconnectDelay = 20,
    };

    protected List<string> Warnings { get; } = [];

    protected static byte[] MakeContent(int size = 300_001) => TestPattern.Make(size, 0, 1);

    internal Task<SshDevice> OpenAsync(FakeSftpServer server, bool writable = false, SshOptions? options = null)
    {
        options ??= Options;
        var connector = new SshConnector(options, new Core.Secrets.SecretStore()) { Transport = server.Connect };
        return SshDevice.OpenAsync(
            connector, options, new OpenFlags { Writable = writable }, Warnings.Add, CancellationToken.None).WaitAsync(Limit);
    }

    internal static async Task AssertContentAsync(SshDevice disk, byte[] expected, string context)
    {
        Assert.Equal(expected.Length, disk.Length);
        var found = new byte[expected.Length];
        await disk.ReadAsync(0, found, CancellationToken.None).AsTask().WaitAsync(Limit);
        TestPattern.AssertEqual(expected, found, 0, context);
    }

    protected static async Task<BlockException> AssertRefusedAsync(BlockErrorKind kind, string words, Func<Task> act)
    {
        BlockException e = await Assert.ThrowsAsync<BlockException>(act);
        Assert.True(
            e.Kind == kind && e.Describe().Contains(words, StringComparison.OrdinalIgnoreCase),
            $"expected {kind} '{words}', found {e.Kind} '{e.Describe()}'");
        return e;
    }
}
