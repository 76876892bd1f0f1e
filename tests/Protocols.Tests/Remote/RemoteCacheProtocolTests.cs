using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Filters.RemoteCache;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit;

namespace ImageMount.Protocols.Tests.Remote;

/// <summary>
/// What each protocol tells the remote cache: names, versions, and whether what was read belongs to them.
/// </summary>
public sealed class RemoteCacheProtocolTests : IDisposable
{
    private const int Size = 700_001;
    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(2);
    private readonly TempDir _dir = new();

    public void Dispose() => _dir.Dispose();

    [Fact]
    public async Task Http_is_kept_by_its_strong_tag_and_checked_with_every_part()
    {
        byte[] content = TestPattern.Make(Size, 0, 1);
        using var server = new FakeWebServer(content);
        string source = $"driver=raw,file.driver=http,file.reconnect-delay=0,file.url={server.Url()}";
        await AssertReadsAsync(source, content);
        int requests = server.Requests.Count;
        await AssertReadsAsync(source, content);
        Assert.Equal(requests + 1, server.Requests.Count);

        await using (Graph graph = await OpenAsync(source.Replace("disk.raw", "disk.raw?id=2", StringComparison.Ordinal)))
        {
            var found = new byte[200_000];
            await graph.Root.ReadAsync(0, found);
            server.Content = TestPattern.Make(Size, 0, 2);
            server.Tag = "\"two\"";
            await graph.Root.ReadAsync(0, found);
            TestPattern.AssertEqual(content.AsSpan(0, 200_000), found, 0, "the version that is open");
            await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.ReadAsync(500_000, found));
        }

        await AssertReadsAsync(source, server.Content);
        Assert.Equal(2, Directory.GetFiles(_dir.File("cache")).Length); // With and without the query.
    }

    [Fact]
    public async Task A_weak_tag_alone_is_no_version()
    {
        using var server = new FakeWebServer(TestPattern.Make(Size, 0, 1)) { Tag = "W/\"one\"" };
        await using Graph graph = await OpenAsync($"driver=raw,file.driver=http,file.url={server.Url()}");
        Assert.Contains(graph.Warnings, text => text.Contains("nothing of it is kept", StringComparison.Ordinal));
        Assert.Empty(Directory.GetFiles(_dir.File("cache")));
    }

    [Fact]
    public async Task A_server_that_refuses_is_not_away()
    {
        byte[] content = TestPattern.Make(Size, 0, 1);
        using var server = new FakeWebServer(content);
        string source = $"driver=raw,file.driver=http,file.reconnect-delay=0,file.url={server.Url()}";
        await AssertReadsAsync(source, content);
        server.Answer = _ => FakeWebServer.Reply("HTTP/1.1 404 No\nContent-Length: 0", []);
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => OpenAsync(source));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
        server.Answer = _ => FakeWebServer.Reply("HTTP/1.1 403 No\nContent-Length: 0", []);
        e = await Assert.ThrowsAsync<BlockException>(() => OpenAsync(source));
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
        server.Answer = _ => FakeWebServer.Reply("HTTP/1.1 503 Later\nContent-Length: 0", []);
        await using Graph graph = await OpenAsync(source);
        Assert.Contains("\"one\"", Assert.Single(graph.Warnings), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Ftp_is_kept_by_its_time_which_is_looked_at_before_anything_is_marked()
    {
        byte[] content = TestPattern.Make(Size, 0, 1);
        using var server = new FakeFtpServer(content);
        string source = $"driver=raw,file.driver=ftp,file.reconnect-delay=0,file.url={server.Url}";
        await AssertReadsAsync(source, content);
        server.Commands.Clear();
        await AssertReadsAsync(source, content);
        Assert.DoesNotContain(server.Commands, command => command.StartsWith("RETR", StringComparison.Ordinal));

        // The other content comes with another time; what was read of it is not there when the old time is back.
        string bobs = source.Replace("ftp,", "ftp,file.username=bob,", StringComparison.Ordinal);
        await using (Graph graph = await OpenAsync(bobs))
        {
            server.Content = TestPattern.Make(Size, 0, 2);
            await graph.Root.ReadAsync(0, new byte[1000]);
            server.Modified = "20200101000001";
        }

        server.Content = content;
        server.Modified = "20200101000000";
        await AssertReadsAsync(bobs, content);
    }

    [Fact]
    public async Task Nbd_has_no_version_and_is_kept_only_under_the_users_word()
    {
        byte[] content = TestPattern.Make(1 << 20, 0, 1);
        using FakeNbdServer server = new FakeNbdServer(_dir, content).Start();
        string source = $"driver=raw,file.driver=nbd,file.export=disk,file.path={server.Path}";
        await using (Graph graph = await OpenAsync(source))
        {
            Assert.Contains(graph.Warnings, text => text.Contains("unversioned=", StringComparison.Ordinal));
        }

        Assert.Empty(Directory.GetFiles(_dir.File("cache")));
        await AssertReadsAsync(source, content, "golden 1");
        server.Crash();
        await AssertReadsAsync(source + ",file.reconnect-delay=0", content, "golden 1");
    }

    [SkippableFact]
    public async Task Ssh_is_kept_by_its_time_and_not_while_it_changes()
    {
        using var server = new SshServer();
        byte[] first = TestPattern.Make(Size, 0, 1);
        string file = _dir.Write("disk.raw", first);
        DateTime time = DateTime.UtcNow.AddHours(-3);
        File.SetLastWriteTimeUtc(file, time);
        string source = $"driver=raw,file.driver=ssh,file.host=127.0.0.1,file.port={server.Port},file.path={file},"
            + $"file.config={server.ClientConfig},file.identity={server.Identity}";
        await using (Graph graph = await OpenAsync(source))
        {
            // Changed in its place while it is open, and put back with its time.
            using FileStream stream = File.Open(file, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            stream.Write(TestPattern.Make(Size, 0, 2));
            stream.Flush();
            await graph.Root.ReadAsync(0, new byte[300_000]);
        }

        File.WriteAllBytes(file, first);
        File.SetLastWriteTimeUtc(file, time);
        await AssertReadsAsync(source, first);
        server.Kill();
        await AssertReadsAsync(source, first, "away");
    }

    private async Task<Graph> OpenAsync(string source, string? unversioned = null)
    {
        var layer = new RemoteCacheLayer(new RemoteCacheSettings(_dir.File("cache"), 1 << 30, unversioned));
        return await TestGraph.OpenOptionsAsync(source, new OpenFlags { RemoteLayer = layer }).AsTask().WaitAsync(s_limit);
    }

    private async Task AssertReadsAsync(string source, byte[] content, string? unversioned = null)
    {
        await using Graph graph = await OpenAsync(source, unversioned);
        Assert.Equal(content.Length, graph.Root.Length);
        var found = new byte[content.Length];
        await graph.Root.ReadAsync(0, found).AsTask().WaitAsync(s_limit);
        TestPattern.AssertEqual(content, found, 0, "through the cache");
    }
}
