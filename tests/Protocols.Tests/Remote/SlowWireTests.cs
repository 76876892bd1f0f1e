using System.Diagnostics;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit.Abstractions;

namespace ImageMount.Protocols.Tests.Remote;

/// <summary>Real servers over a wire with long round trips that is cut and frozen: no wrong byte, and no waiting for ever.</summary>
public sealed class SlowWireTests(ITestOutputHelper output) : IDisposable
{
    private const int Length = (1 << 20) + 777;
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(100);

    private readonly TempDir _dir = new();
    private readonly byte[] _content = TestPattern.Make(Length, 0, 31);

    public void Dispose() => _dir.Dispose();

    [SkippableTheory]
    [InlineData("http", 10)]
    [InlineData("http", 100)]
    [InlineData("ftp", 10)]
    [InlineData("ftp", 100)]
    [InlineData("ssh", 10)]
    [InlineData("ssh", 100)]
    public async Task A_wire_that_is_cut_again_and_again_brings_the_right_bytes(string protocol, int milliseconds)
    {
        using Way way = Start(protocol, milliseconds);
        await using Graph graph = await OpenAsync(way);
        Assert.Equal(Length, graph.Root.Length);
        var found = new byte[Length];
        await graph.Root.ReadAsync(0, found).AsTask().WaitAsync(s_limit);
        TestPattern.AssertEqual(_content, found, 0, "at once");

        int seed = Random.Shared.Next();
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        int cut = 0;
        for (int round = 0; round < (milliseconds > 10 ? 1 : 2); round++)
        {
            found.AsSpan().Clear();
            Task[] reads = [.. Enumerable.Range(0, milliseconds > 10 ? 2 : 6).Select(_ => ReadPartAsync(graph, random.Next(Length - 60_000))),
                ReadInOrderAsync(graph, found)];
            await Task.WhenAny(reads).WaitAsync(s_limit);
            cut += way.Proxy.Cut();
            await Task.WhenAll(reads).WaitAsync(s_limit);
            TestPattern.AssertEqual(_content, found, 0, "in order");
        }

        Assert.NotEqual(0, cut);
    }

    [SkippableTheory]
    [InlineData("http")]
    [InlineData("ftp")]
    [InlineData("ssh")]
    public async Task A_wire_that_freezes_fails_reads_in_time_and_serves_them_when_it_goes_on(string protocol)
    {
        using Way way = Start(protocol, 10);
        await using Graph graph = await OpenAsync(way, ("timeout", "1"), ("reconnect-delay", "1"));
        await ReadPartAsync(graph, 0);
        way.Proxy.Freeze();
        var clock = Stopwatch.StartNew();
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            () => ReadPartAsync(graph, 1 << 19).WaitAsync(s_limit));
        Assert.True(e.Kind is BlockErrorKind.TimedOut or BlockErrorKind.IoError, e.Describe());
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30), $"after {clock.Elapsed}");
        way.Proxy.Thaw();
        clock.Restart();
        while (await FailsAsync(() => ReadPartAsync(graph, 1 << 19).WaitAsync(s_limit)))
        {
            Assert.True(clock.Elapsed < s_limit, "it goes on, and nothing is read");
        }
    }

    [SkippableFact]
    public async Task Writes_over_a_wire_that_is_cut_reach_the_file()
    {
        using Way way = Start("ssh", 10);
        byte[] model = [.. _content];
        int seed = Random.Shared.Next();
        output.WriteLine($"seed {seed}");
        var random = new Random(seed);
        await using (Graph graph = await TestGraph.Opener.OpenAsync(way.Options(), TestGraph.Writable))
        {
            for (int round = 0; round < 3; round++)
            {
                Task[] writes = [.. Enumerable.Range(0, 10).Select(i =>
                {
                    int at = (i * 100_000) + random.Next(1000);
                    TestPattern.Fill(model.AsSpan(at, 90_000), at, (round * 100) + i);
                    return graph.Root.WriteAsync(at, model.AsMemory(at, 90_000)).AsTask();
                })];
                await Task.WhenAny(writes).WaitAsync(s_limit);
                way.Proxy.Cut();
                await Task.WhenAll(writes).WaitAsync(s_limit);
                if (round % 2 == 0)
                {
                    await graph.Root.FlushAsync().AsTask().WaitAsync(s_limit);
                }
            }
        }

        byte[] written = await File.ReadAllBytesAsync(_dir.File("disk.raw"));
        TestPattern.AssertEqual(model, written, 0, "the file");
    }

    private static async Task<bool> FailsAsync(Func<Task> read)
    {
        try
        {
            await read();
            return false;
        }
        catch (BlockException)
        {
            return true;
        }
    }

    private static async Task<Graph> OpenAsync(Way way, params (string Key, string Value)[] more)
    {
        OptionMap options = way.Options();
        foreach ((string key, string value) in more)
        {
            options.Set(key, value);
        }

        return await TestGraph.Opener.OpenAsync(options, TestGraph.ReadOnly).AsTask().WaitAsync(s_limit);
    }

    private Way Start(string protocol, int milliseconds)
    {
        _dir.Write("disk.raw", _content);
        switch (protocol)
        {
            case "http":
                var web = new WebServer(_dir.Path);
                var proxy = new DelayProxy(web.Port, milliseconds);
                return new Way(web, proxy, () => TestGraph.Parser.ParseProtocol($"http://127.0.0.1:{proxy.Port}/disk.raw"));
            case "ftp":
                var keys = new TempDir();
                var ftp = new FtpServer(_dir.Path, new TestCertificates(keys));
                var wide = new DelayProxy([ftp.Port, .. ftp.DataPorts], milliseconds);
                return new Way(
                    ftp, wide, () => TestGraph.Parser.ParseProtocol(ftp.Url("disk.raw", host: DelayProxy.OtherHost)), keys);
            default:
                var sshd = new SshServer();
                var wire = new DelayProxy(sshd.Port, milliseconds);
                return new Way(sshd, wire, () =>
                {
                    OptionMap options = TestGraph.Parser.ParseProtocol(
                        $"ssh://127.0.0.1:{wire.Port}{_dir.File("disk.raw")}?host_key_check=sha256:{sshd.HostKeySha256}");
                    foreach ((string key, string value) in sshd.Options)
                    {
                        options.Set(key, value);
                    }

                    return options;
                });
        }
    }

    private async Task ReadPartAsync(Graph graph, int offset)
    {
        var found = new byte[50_000];
        await graph.Root.ReadAsync(offset, found);
        TestPattern.AssertEqual(_content.AsSpan(offset, found.Length), found, offset, "a part");
    }

    private static async Task ReadInOrderAsync(Graph graph, byte[] found)
    {
        for (int at = 0; at < Length; at += 65_536)
        {
            await graph.Root.ReadAsync(at, found.AsMemory(at, Math.Min(65_536, Length - at)));
        }
    }

    /// <summary>A server, the wire before it, and how to reach the disk through that.</summary>
    private sealed record Way(IDisposable Server, DelayProxy Proxy, Func<OptionMap> Options, IDisposable? More = null)
        : IDisposable
    {
        public void Dispose()
        {
            Proxy.Dispose();
            Server.Dispose();
            More?.Dispose();
        }
    }
}
