using System.Diagnostics;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit;

namespace ImageMount.Protocols.Tests.Http;

/// <summary>The drivers http and https with nginx, and with a server that sends no parts.</summary>
public sealed class HttpServerTests : IDisposable
{
    private const int Length = (3 << 20) + 777;
    private static readonly Lazy<(TempDir Dir, TestCertificates Certificates)> s_tls = new(() =>
    {
        var dir = new TempDir();
        AppDomain.CurrentDomain.ProcessExit += (_, _) => dir.Dispose();
        return (dir, new TestCertificates(dir));
    });

    private readonly TempDir _dir = new();
    private readonly byte[] _content = TestPattern.Make(Length, 0, 5);

    public HttpServerTests() => _dir.Write("disk.raw", _content);

    public void Dispose() => _dir.Dispose();

    [SkippableFact]
    public async Task A_disk_is_the_same_as_the_file()
    {
        using var server = new WebServer(_dir.Path);
        foreach (string path in (string[])["disk.raw", "nohead/disk.raw", "redirect/disk.raw", "query?x=disk.raw"])
        {
            await AssertSameAsync(server.Url(path));
        }
    }

    [SkippableFact]
    public async Task An_empty_file_is_an_empty_disk()
    {
        _dir.Write("empty.raw", []);
        using var server = new WebServer(_dir.Path);
        await using Graph graph = await TestGraph.OpenOptionsAsync($"driver=raw,file.driver=http,file.url={server.Url("empty.raw")}");
        Assert.Equal(0, graph.Root.Length);
    }

    [SkippableFact]
    public async Task Sequential_reads_are_fetched_ahead_in_large_parts()
    {
        using var server = new WebServer(_dir.Path);
        await using (Graph graph = await TestGraph.OpenAsync(server.Url("disk.raw")))
        {
            var found = new byte[Length];
            for (int at = 0; at < Length; at += 4096)
            {
                await graph.Root.ReadAsync(at, found.AsMemory(at, Math.Min(4096, Length - at)));
            }

            Assert.Equal(_content, found);
        }

        int requests = server.Requests.Length;
        Assert.True(requests < 60, $"{requests} requests for {Length / 4096} reads");
    }

    [SkippableTheory]
    [InlineData("base.raw", false)]
    [InlineData("{folder}/base.raw", true)]
    [InlineData("{url}/base.raw", false)]
    public async Task An_image_with_a_parent_is_the_same_as_the_local_one(string parent, bool allow)
    {
        _dir.Write("base.raw", TestPattern.Make(1 << 20, 0, 7));
        using var server = new WebServer(_dir.Path);
        string image = _dir.File("child.qcow2");
        parent = parent.Replace("{folder}", _dir.Path).Replace("{url}", server.Url("redirect"));
        Qemu.Img("create", "-q", "-f", "qcow2", "-u", "-b", parent, "-F", "raw", image, "1M");
        string local = _dir.File("local.qcow2");
        Qemu.Img("create", "-q", "-f", "qcow2", "-b", _dir.File("base.raw"), "-F", "raw", local);
        Qemu.Io("qcow2", local, "write -P 3 65536 70000", "write -z 400000 65536");
        File.Copy(local, image, overwrite: true);
        Qemu.Img("rebase", "-u", "-f", "qcow2", "-b", parent, "-F", "raw", image);
        string flat = _dir.File("flat.raw");
        Qemu.Img("convert", "-f", "qcow2", "-O", "raw", local, flat);
        if (allow)
        {
            BlockException e = await Assert.ThrowsAsync<BlockException>(
                async () => await TestGraph.OpenAsync(server.Url("child.qcow2")));
            Assert.Contains("--allow-external", e.Describe(), StringComparison.Ordinal);
        }

        await AssertSameAsync(server.Url("child.qcow2"), File.ReadAllBytes(flat), new OpenFlags { AllowExternal = allow });
    }

    [SkippableFact]
    public async Task A_password_opens_the_image_and_its_parent_and_is_never_shown()
    {
        _dir.Write("base.raw", _content);
        using var server = new WebServer(_dir.Path);
        Qemu.Img("create", "-q", "-f", "qcow2", "-u", "-b", "base.raw", "-F", "raw", _dir.File("child.qcow2"), $"{Length}");
        using (var secrets = new SecretStore())
        {
            await AssertSameAsync(
                server.Url("auth/child.qcow2", "alice:secret@"), [.. _content, .. new byte[512 - (Length % 512)]],
                new OpenFlags { Secrets = secrets });
        }

        using (var secrets = new SecretStore())
        {
            secrets.Add("pw", new Secret("secret"u8));
            await using Graph graph = await TestGraph.OpenOptionsAsync(
                $"driver=raw,file.driver=http,file.url={server.Url("auth/disk.raw")},file.username=alice,file.password-secret=pw",
                new OpenFlags { Secrets = secrets });
            Assert.Equal(Length, graph.Root.Length);
        }

        string netrc = _dir.Write("netrc", "default login alice password secret\n"u8);
        await using (Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=raw,file.driver=http,file.url={server.Url("auth/disk.raw")},file.netrc={netrc}", new OpenFlags()))
        {
            Assert.Equal(Length, graph.Root.Length);
        }

        foreach (string login in (string[])["", "alice:geheim@", "alice@"])
        {
            BlockException e = await Assert.ThrowsAsync<BlockException>(
                async () => await TestGraph.OpenAsync(server.Url("auth/disk.raw", login), new OpenFlags()));
            Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
            Assert.Contains("user name or password", e.Describe(), StringComparison.Ordinal);
            Assert.DoesNotContain("geheim", e.ToString() + e.Describe(), StringComparison.Ordinal);
        }

        await using Graph shown = await TestGraph.OpenAsync(server.Url("auth/disk.raw?token=geheim", "alice:secret@"));
        Assert.DoesNotContain("secret", shown.Location + shown.Root.Name, StringComparison.Ordinal);
        Assert.DoesNotContain("geheim", shown.Location + shown.Root.Name, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Certificates_are_checked()
    {
        TestCertificates certificates = s_tls.Value.Certificates;
        using var server = new WebServer(_dir.Path, certificates);
        string trust = $",file.cacert={certificates.Authority}";
        await AssertSameAsync(TestGraph.Parser.ParseImageOptions(
            $"driver=raw,file.driver=https,file.url={server.TlsUrl("disk.raw")}{trust}"), _content);
        await AssertSameAsync(TestGraph.Parser.ParseImageOptions(
            $"driver=raw,file.driver=http,file.url={server.Url("tls/disk.raw")}{trust}"), _content);
        await AssertSameAsync(TestGraph.Parser.ParseImageOptions(
            $"driver=raw,file.driver=https,file.url={server.TlsUrl("disk.raw")},file.sslverify=off"), _content);
        await AssertRefusedAsync(server.TlsUrl("disk.raw"), "", "not signed by a known authority");
        using var secrets = new SecretStore();
        secrets.AddTls(new TlsX509Credentials { Id = "t", Directory = s_tls.Value.Dir.Path });
        await using Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=raw,file.driver=https,file.url={server.TlsUrl("disk.raw")},file.tls-creds=t",
            new OpenFlags { Secrets = secrets });
        Assert.Equal(Length, graph.Root.Length);
        using (var other = new WebServer(_dir.Path, certificates, "other"))
        {
            await AssertRefusedAsync(other.TlsUrl("disk.raw"), trust, "it is for another host");
        }

        using (var old = new WebServer(_dir.Path, certificates, "old"))
        {
            await AssertRefusedAsync(old.TlsUrl("disk.raw"), trust, "expired");
        }
    }

    [SkippableFact]
    public async Task A_server_without_parts_is_refused_or_spooled()
    {
        using var server = new WebServer(_dir.Path);
        int port = ServerProcess.FreePort();
        using var python = new ServerProcess(
            "python3", ["-m", "http.server", "--bind", "127.0.0.1", "--directory", _dir.Path, $"{port}"], port);
        foreach (string url in (string[])[server.Url("norange/disk.raw"), $"http://127.0.0.1:{port}/disk.raw"])
        {
            BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(url));
            Assert.Contains("--spool", e.Describe(), StringComparison.Ordinal);
            await AssertSameAsync(url, _content, new OpenFlags { Spool = true });
        }

        await AssertSameAsync(
            TestGraph.Parser.ParseImageOptions($"driver=raw,file.driver=http,file.spool=on,file.url={server.Url("disk.raw")}"),
            _content);
    }

    [SkippableTheory]
    [InlineData("missing.raw", BlockErrorKind.NotFound)]
    [InlineData("gone", BlockErrorKind.NotFound)]
    [InlineData("busy", BlockErrorKind.IoError)]
    [InlineData("loop", BlockErrorKind.InvalidData)]
    public async Task What_is_not_there_is_told(string path, BlockErrorKind kind)
    {
        using var server = new WebServer(_dir.Path);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(server.Url(path)));
        Assert.Equal(kind, e.Kind);
        Assert.Contains($"127.0.0.1:{server.Port}/{path}", e.Describe(), StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task Nobody_can_write()
    {
        using var server = new WebServer(_dir.Path);
        await using Graph graph = await TestGraph.OpenAsync(server.Url("disk.raw"), new OpenFlags { Writable = true });
        Assert.False(graph.Root.CanWrite);
        Assert.Contains(graph.Warnings, warning => warning.Contains("only be read", StringComparison.Ordinal));
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.WriteAsync(0, new byte[512]));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
    }

    [SkippableFact]
    public async Task A_server_that_is_killed_and_comes_back_is_used_again()
    {
        using var server = new WebServer(_dir.Path);
        await using Graph graph = await OpenAsync(server, "timeout=20,file.reconnect-delay=20");
        await AssertPartAsync(graph, 0);
        server.Process.Kill();
        Task reading = AssertPartAsync(graph, 1 << 20);
        Task second = AssertPartAsync(graph, 2 << 20);
        server.Process.Start();
        await reading.WaitAsync(TimeSpan.FromSeconds(20));
        await second.WaitAsync(TimeSpan.FromSeconds(20));
    }

    [SkippableFact]
    public async Task A_server_that_stays_away_fails_in_time()
    {
        using var server = new WebServer(_dir.Path);
        await using Graph graph = await OpenAsync(server, "timeout=20,file.reconnect-delay=1");
        await using Graph impatient = await OpenAsync(server, "timeout=20,file.reconnect-delay=0");
        server.Process.Kill();
        var clock = Stopwatch.StartNew();
        await Assert.ThrowsAsync<BlockException>(() => AssertPartAsync(impatient, 1 << 20));
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(3), $"after {clock.Elapsed}");
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => AssertPartAsync(graph, 1 << 20));
        Assert.Contains("is lost", e.Describe(), StringComparison.Ordinal);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(8), $"after {clock.Elapsed}");
        server.Process.Start();
        await OpenAsync(server, "timeout=20").Result.DisposeAsync();
    }

    [SkippableFact]
    public async Task A_server_that_stalls_fails_in_time_and_is_used_again_later()
    {
        using var server = new WebServer(_dir.Path);
        await using Graph graph = await OpenAsync(server, "timeout=1,file.reconnect-delay=1,file.readahead=0");
        await AssertPartAsync(graph, 0);
        server.Process.Stop();
        var clock = Stopwatch.StartNew();
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => AssertPartAsync(graph, 1 << 20));
        Assert.Equal(BlockErrorKind.TimedOut, e.Kind);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(8), $"after {clock.Elapsed}");
        server.Process.Continue();
        while (true)
        {
            try
            {
                await AssertPartAsync(graph, 1 << 20);
                return;
            }
            catch (BlockException) when (clock.Elapsed < TimeSpan.FromSeconds(30))
            {
                // The pause before the next try to connect is not over yet; requests fail at once meanwhile.
                await Task.Yield();
            }
        }
    }

    [SkippableFact]
    public async Task Cancelling_and_closing_do_not_wait_for_a_stalled_server()
    {
        using var server = new WebServer(_dir.Path);
        Graph graph = await OpenAsync(server, "timeout=60,file.reconnect-delay=60");
        server.Process.Stop();
        try
        {
            using var cancel = new CancellationTokenSource();
            Task reading = graph.Root.ReadAsync(1 << 20, new byte[4096], cancel.Token).AsTask();
            Task waiting = graph.Root.ReadAsync(2 << 20, new byte[4096]).AsTask();
            var clock = Stopwatch.StartNew();
            await cancel.CancelAsync();
            Exception? e = await Record.ExceptionAsync(() => reading);
            Assert.True(e is OperationCanceledException or BlockException { Kind: BlockErrorKind.Cancelled }, $"{e}");
            graph.StopWaiting(TimeSpan.FromSeconds(1));
            await Assert.ThrowsAsync<BlockException>(() => waiting);
            await graph.CloseAsync();
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(10), $"after {clock.Elapsed}");
        }
        finally
        {
            server.Process.Continue();
            await graph.DisposeAsync();
        }
    }

    [SkippableFact]
    public async Task A_slow_server_is_no_stalled_one()
    {
        using var server = new WebServer(_dir.Path);
        await using Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=raw,file.driver=http,file.url={server.Url("slow/disk.raw")},file.timeout=4,file.reconnect-delay=0");
        var found = new byte[3 << 20]; // Takes longer than the timeout.
        await graph.Root.ReadAsync(0, found);
        Assert.Equal(_content[..found.Length], found);
    }

    [SkippableFact]
    public async Task A_file_that_changes_is_noticed()
    {
        using var server = new WebServer(_dir.Path);
        await using Graph graph = await OpenAsync(server, "timeout=20");
        await AssertPartAsync(graph, 0);
        _dir.Write("disk.raw", TestPattern.Make(Length, 0, 6));
        File.SetLastWriteTimeUtc(_dir.File("disk.raw"), DateTime.UtcNow.AddHours(-1));
        for (int i = 0; i < 2; i++)
        {
            BlockException e = await Assert.ThrowsAsync<BlockException>(() => AssertPartAsync(graph, 1 << 20));
            Assert.Contains("has changed on the server", e.Describe(), StringComparison.Ordinal);
        }
    }

    private static ValueTask<Graph> OpenAsync(WebServer server, string options) => TestGraph.OpenOptionsAsync(
        $"driver=raw,file.driver=http,file.url={server.Url("disk.raw")},file.{options}");

    private static Task AssertSameAsync(string source, byte[] content, OpenFlags? flags = null) =>
        AssertSameAsync(TestGraph.Parser.Parse(source), content, flags);

    private static async Task AssertSameAsync(OptionMap image, byte[] content, OpenFlags? flags = null)
    {
        await using Graph graph = await TestGraph.Opener.OpenAsync(image, flags ?? TestGraph.ReadOnly);
        Assert.Equal(content.Length, graph.Root.Length);
        var found = new byte[content.Length];
        await graph.Root.ReadAsync(0, found);
        TestPattern.AssertEqual(content, found, 0, "all of it");
    }

    private static async Task AssertRefusedAsync(string url, string options, string why)
    {
        BlockException e = await Assert.ThrowsAsync<BlockException>(
            async () => await TestGraph.OpenOptionsAsync($"driver=raw,file.driver=https,file.url={url}{options}"));
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
        Assert.Contains(why, e.Describe(), StringComparison.Ordinal);
    }

    private Task AssertSameAsync(string source) => AssertSameAsync(source, _content);

    private async Task AssertPartAsync(Graph graph, int offset)
    {
        var found = new byte[10_000];
        await graph.Root.ReadAsync(offset, found);
        TestPattern.AssertEqual(_content.AsSpan(offset, found.Length), found, offset, "part");
    }
}
