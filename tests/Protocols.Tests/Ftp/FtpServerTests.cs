using System.Diagnostics;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit;

namespace ImageMount.Protocols.Tests.Ftp;

/// <summary>The drivers ftp and ftps with proftpd.</summary>
public sealed class FtpServerTests : IDisposable
{
    private const int Length = (5 << 20) + 777;
    private readonly TempDir _dir = new();
    private readonly TempDir _keys = new();
    private readonly byte[] _content = TestPattern.Make(Length, 0, 15);
    private readonly TestCertificates _certificates;

    public FtpServerTests()
    {
        _dir.Write("disk.raw", _content);
        _certificates = new TestCertificates(_keys);
    }

    public void Dispose()
    {
        _dir.Dispose();
        _keys.Dispose();
    }

    [SkippableFact]
    public async Task A_disk_is_the_same_as_the_file()
    {
        using var server = new FtpServer(_dir.Path, _certificates);
        await AssertSameAsync($"file.driver=ftp,file.url={server.Url("disk.raw")}");
        await AssertSameAsync($"file.driver=ftp,file.url={server.Url("%2Fdisk.raw")},file.connections=1");
    }

    [SkippableFact]
    public async Task A_disk_over_TLS_is_the_same_as_the_file()
    {
        using var server = new FtpServer(_dir.Path, _certificates);
        string trust = $",file.cacert={_certificates.Authority}";
        await AssertSameAsync($"file.driver=ftp,file.tls=explicit,file.url={server.Url("disk.raw")}{trust}");
        await AssertSameAsync($"file.driver=ftps,file.url={server.TlsUrl("disk.raw")}{trust}");
        await AssertSameAsync($"file.driver=ftps,file.url={server.TlsUrl("disk.raw", "localhost")}{trust}");
        await AssertSameAsync($"file.driver=ftps,file.url={server.TlsUrl("disk.raw")},file.sslverify=off");
        await AssertRefusedAsync($"file.driver=ftps,file.url={server.TlsUrl("disk.raw")}", "not signed by a known authority");
        using var other = new FtpServer(_dir.Path, _certificates, "other");
        await AssertRefusedAsync($"file.driver=ftps,file.url={other.TlsUrl("disk.raw")}{trust}", "it is for another host");
        await AssertRefusedAsync($"file.driver=ftps,file.url={other.TlsUrl("disk.raw", "localhost")}{trust}", "another host");
    }

    [SkippableFact]
    public async Task A_wrong_password_and_a_missing_file_are_told()
    {
        using var server = new FtpServer(_dir.Path, _certificates);
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.OpenAsync(server.Url("disk.raw", "alice:geheim@"), new OpenFlags()));
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
        Assert.DoesNotContain("geheim", e.ToString() + e.Describe(), StringComparison.Ordinal);
        e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.OpenAsync(server.Url("missing.raw"), new OpenFlags()));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
    }

    [SkippableFact]
    public async Task An_image_on_a_web_server_may_have_its_parent_here()
    {
        using var server = new FtpServer(_dir.Path, _certificates);
        using var web = new WebServer(_dir.Path);
        Qemu.Img("create", "-q", "-f", "qcow2", "-b", _dir.File("disk.raw"), "-F", "raw", _dir.File("child.qcow2"));
        Qemu.Io("qcow2", _dir.File("child.qcow2"), "write -P 3 65536 70000");
        Qemu.Img("convert", "-f", "qcow2", "-O", "raw", _dir.File("child.qcow2"), _dir.File("flat.raw"));
        Qemu.Img("rebase", "-u", "-f", "qcow2", "-b", server.Url("disk.raw"), "-F", "raw", _dir.File("child.qcow2"));
        await using Graph graph = await TestGraph.OpenAsync(
            web.Url("child.qcow2"), new OpenFlags { AllowExternal = true });
        byte[] expected = File.ReadAllBytes(_dir.File("flat.raw"));
        var found = new byte[expected.Length];
        await graph.Root.ReadAsync(0, found);
        TestPattern.AssertEqual(expected, found, 0, "all of it");
    }

    [SkippableFact]
    public async Task A_server_that_is_killed_and_comes_back_is_used_again()
    {
        using var server = new FtpServer(_dir.Path, _certificates);
        await using Graph graph = await OpenAsync($"file.driver=ftp,file.url={server.Url("disk.raw")}");
        await AssertPartAsync(graph, 0);
        server.Process.Kill();
        Task reading = AssertPartAsync(graph, 1 << 20);
        Task second = AssertPartAsync(graph, 3 << 20);
        server.Process.Start();
        await reading.WaitAsync(TimeSpan.FromSeconds(20));
        await second.WaitAsync(TimeSpan.FromSeconds(20));
    }

    [SkippableFact]
    public async Task A_server_that_stalls_fails_in_time()
    {
        using var server = new FtpServer(_dir.Path, _certificates);
        await using Graph graph = await OpenAsync(
            $"file.driver=ftp,file.url={server.Url("disk.raw")},file.timeout=1,file.reconnect-delay=1,file.readahead=0");
        await AssertPartAsync(graph, 0);
        server.Process.Stop();
        var clock = Stopwatch.StartNew();
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => AssertPartAsync(graph, 1 << 20));
        Assert.Equal(BlockErrorKind.TimedOut, e.Kind);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(8), $"after {clock.Elapsed}");
        server.Process.Continue();
    }

    private static ValueTask<Graph> OpenAsync(string options) =>
        TestGraph.OpenOptionsAsync($"driver=raw,{options}", new OpenFlags());

    private static async Task AssertRefusedAsync(string options, string why)
    {
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(options));
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
        Assert.Contains(why, e.Describe(), StringComparison.Ordinal);
    }

    private async Task AssertSameAsync(string options)
    {
        await using Graph graph = await OpenAsync(options);
        Assert.Equal(Length, graph.Root.Length);
        var found = new byte[Length];
        await graph.Root.ReadAsync(0, found);
        TestPattern.AssertEqual(_content, found, 0, "at once");
        found.AsSpan().Clear();
        for (int at = 0; at < Length; at += 65_536)
        {
            await graph.Root.ReadAsync(at, found.AsMemory(at, Math.Min(65_536, Length - at)));
        }

        TestPattern.AssertEqual(_content, found, 0, "in order");
        foreach (int at in (int[])[Length - 10_000, 0, 1 << 20, 777])
        {
            await AssertPartAsync(graph, at);
        }
    }

    private async Task AssertPartAsync(Graph graph, int offset)
    {
        var found = new byte[10_000];
        await graph.Root.ReadAsync(offset, found);
        TestPattern.AssertEqual(_content.AsSpan(offset, found.Length), found, offset, "part");
    }
}
