using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop;
using ImageMount.Protocols.Gluster;
using ImageMount.Protocols.Remote;
using ImageMount.TestSupport;

namespace ImageMount.Protocols.Tests.Gluster;

/// <summary>Opening a disk over <see cref="FakeGfapi"/>.</summary>
public abstract class GlusterTestBase
{
    protected static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    internal static readonly GlusterOptions Options = new() { Volume = "v", Path = "disk" };

    protected List<string> Warnings { get; } = [];

    /// <summary>Long enough for a loaded machine, where nothing is to time out.</summary>
    internal static LinkPolicy Patient { get; } = new()
    {
        Timeout = TimeSpan.FromSeconds(40),
        ReconnectDelay = TimeSpan.FromSeconds(40),
        FirstPause = TimeSpan.FromMilliseconds(1),
        LongestPause = TimeSpan.FromMilliseconds(20),
    };

    protected static byte[] MakeContent(int size = 300_001) => TestPattern.Make(size, 0, 1);

    internal static FakeGfapi Fake(byte[] content) => new() { Disk = [.. content], Durable = [.. content] };

    internal static GfapiTarget Target { get; } = new("v", [new GfapiServer("tcp", "fake", 24007)], "/dev/null", 4);

    internal Task<GlusterDevice> OpenAsync(
        FakeGfapi library, bool writable = false, LinkPolicy? policy = null, GlusterVolumes? volumes = null)
    {
        policy ??= Patient;
        var options = Options with
        {
            Servers = new Core.Options.OptionMap(),
        };
        options.Servers!.SetPath("0.host", "fake");
        var connector = new GlusterConnector(
            volumes ?? new GlusterVolumes(library, TimeSpan.FromMinutes(10)), Target, options.Path, policy, Warnings.Add);
        return GlusterDevice.OpenAsync(
            connector, policy, options, new OpenFlags { Writable = writable }, CancellationToken.None).WaitAsync(Limit);
    }

    internal static async Task AssertContentAsync(GlusterDevice disk, byte[] expected, string context)
    {
        Assert.Equal(expected.Length, disk.Length);
        var found = new byte[expected.Length];
        await disk.ReadAsync(0, found, CancellationToken.None).AsTask().WaitAsync(Limit);
        TestPattern.AssertEqual(expected, found, 0, context);
    }

    internal static Task WriteAsync(GlusterDevice disk, byte[] model, int offset, int count, long seed)
    {
        TestPattern.Fill(model.AsSpan(offset, count), offset, seed);
        return disk.WriteAsync(offset, model.AsMemory(offset, count).ToArray(), WriteFlags.None, CancellationToken.None)
            .AsTask().WaitAsync(Limit);
    }

    internal static Task FlushAsync(GlusterDevice disk) => disk.FlushAsync(CancellationToken.None).AsTask().WaitAsync(Limit);

    internal static Task ReadAsync(GlusterDevice disk, int offset, int count) =>
        disk.ReadAsync(offset, new byte[count], CancellationToken.None).AsTask().WaitAsync(Limit);

    protected static async Task<BlockException> AssertRefusedAsync(BlockErrorKind kind, string words, Func<Task> act)
    {
        BlockException e = await Assert.ThrowsAsync<BlockException>(act);
        Assert.True(
            e.Kind == kind && e.Describe().Contains(words, StringComparison.OrdinalIgnoreCase),
            $"expected {kind} '{words}', found {e.Kind} '{e.Describe()}'");
        return e;
    }

    protected static void WaitUntil(Func<bool> condition, string what) => WaitUntil(condition, () => what);

    protected static void WaitUntil(Func<bool> condition, Func<string> what)
    {
        if (!SpinWait.SpinUntil(condition, Limit))
        {
            Assert.Fail(what());
        }
    }
}
