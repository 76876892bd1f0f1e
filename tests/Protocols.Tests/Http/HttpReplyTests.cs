using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit;

namespace ImageMount.Protocols.Tests.Http;

/// <summary>Answers that a web server may give, from literal bytes.</summary>
public sealed class HttpReplyTests : IDisposable
{
    private const int Length = 200_000;
    private readonly byte[] _content = TestPattern.Make(Length, 0, 9);
    private readonly FakeWebServer _server;

    public HttpReplyTests() => _server = new FakeWebServer(_content);

    public void Dispose() => _server.Dispose();

    [Theory]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100", "which one")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Range: bytes 0-99", "which one")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Range: bytes 99-0/200000", "which one")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Range: bytes 200000-200099/200000", "which one")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Range: bytes -1-98/200000", "which one")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Range: bytes 0-9223372036854775807/*", "which one")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Range: lines 5000-5099/200000", "which one")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Range: bytes 5001-5100/200000", "another part")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 101\nContent-Range: bytes 5000-5100/200000", "another part")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 99\nContent-Range: bytes 5000-5099/200000", "another length")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Type: multipart/byteranges; boundary=x", "several parts")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Encoding: gzip\nContent-Range: bytes 5000-5099/200000", "encoded")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Range: bytes 5000-5099/200001", "has changed")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 100\nContent-Range: bytes 5000-5099/200000\nETag: \"two\"", "has changed")]
    [InlineData("HTTP/1.1 200 OK\nContent-Length: 199999\nETag: \"one\"", "has changed")]
    [InlineData("HTTP/1.1 200 OK\nContent-Length: 200000\nETag: \"one\"", "--spool")]
    [InlineData("HTTP/1.1 416 No\nContent-Length: 0\nContent-Range: bytes */100", "has changed")]
    [InlineData("HTTP/1.1 416 No\nContent-Length: 0", "lies outside")]
    [InlineData("HTTP/1.1 404 No\nContent-Length: 0", "no such file")]
    [InlineData("HTTP/1.1 403 No\nContent-Length: 0", "does not allow")]
    [InlineData("HTTP/1.1 302 To\nContent-Length: 0\nLocation: /elsewhere", "again and again")]
    [InlineData("HTTP/1.1 302 To\nContent-Length: 0", "again and again")]
    [InlineData("HTTP/1.1 xxx", "HTTP properly")]
    [InlineData("nonsense", "HTTP properly")]
    public async Task A_wrong_answer_is_an_error_that_says_what_is_wrong(string header, string message)
    {
        await using Graph graph = await OpenAsync();
        _server.Answer = request => request.Range.Last == 0 ? _server.Usual(request)
            : [.. FakeWebServer.Reply(header, new byte[100]), .. Encoding.Latin1.GetBytes(FakeWebServer.Hangup)];
        var buffer = new byte[100];
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await graph.Root.ReadAsync(5000, buffer));
        Assert.Contains(message, e.Describe(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("HTTP/1.1 302 To\nContent-Length: 0\nLocation: gopher://x/", "not HTTP")]
    [InlineData("HTTP/1.1 302 To\nContent-Length: 0\nLocation: http://[/", "no URL")]
    [InlineData("HTTP/1.1 302 To\nContent-Length: 0", "nowhere")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 1\nContent-Range: bytes 1-1/20", "another part")]
    [InlineData("HTTP/1.1 206 P\nContent-Length: 1\nContent-Range: bytes 0-0/*", "--spool")]
    [InlineData("HTTP/1.1 200 OK\nContent-Length: 200000\nContent-Encoding: gzip", "encoded")]
    [InlineData("HTTP/1.1 407 Proxy\nContent-Length: 0", "proxy-username")]
    public async Task A_wrong_first_answer_is_an_error(string header, string message)
    {
        _server.Answer = _ => [.. FakeWebServer.Reply(header, new byte[1]), .. Encoding.Latin1.GetBytes(FakeWebServer.Hangup)];
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync());
        Assert.Contains(message, e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Short_answers_are_completed_and_lost_ones_repeated()
    {
        await using Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=raw,file.driver=http,file.url={_server.Url()},file.readahead=0");
        int count = 0;
        byte[] hangup = Encoding.Latin1.GetBytes(FakeWebServer.Hangup);
        _server.Answer = request =>
        {
            (long first, long last) = request.Range;
            byte[] usual = _server.Usual(request);
            return (Interlocked.Increment(ref count) % 5) switch
            {
                0 => null, // Closed without a word.
                1 => _server.Part(first, first + ((last - first) / 2), $"bytes {first}-{first + ((last - first) / 2)}/{Length}"),
                2 => [.. usual[..^((int)(last - first + 1) / 2)], .. hangup], // Breaks off in the middle.
                3 => Chunked(first, last),
                _ => usual,
            };
        };
        await AssertContentAsync(graph);
        Assert.True(count >= 30, $"{count} requests");
    }

    [Fact]
    public async Task A_busy_server_is_asked_again()
    {
        await using Graph graph = await OpenAsync();
        int count = 0;
        _server.Answer = request => Interlocked.Increment(ref count) <= 2
            ? FakeWebServer.Reply("HTTP/1.1 503 Busy\nRetry-After: 0\nContent-Length: 4", "busy"u8) : _server.Usual(request);
        var found = new byte[1000];
        await graph.Root.ReadAsync(1000, found);
        Assert.Equal(_content[1000..2000], found);
        Assert.Equal(3, count);
    }

    [Fact]
    public async Task A_signed_address_that_expires_is_asked_for_again()
    {
        int signature = 1;
        _server.Answer = request => request.Path == "/disk.raw"
            ? FakeWebServer.Reply($"HTTP/1.1 307 To\nContent-Length: 0\nLocation: /signed?x={signature}%2F", [])
            : request.Path == $"/signed?x={signature}%2F" ? _server.Usual(request)
            : FakeWebServer.Reply("HTTP/1.1 403 Expired\nContent-Length: 0", []);
        await using Graph graph = await OpenAsync();
        await ReadAsync(graph, 5000);
        int direct = _server.Requests.Count(request => request.Path == "/disk.raw");
        Assert.Equal(1, direct); // Remembered.
        signature = 2;
        await ReadAsync(graph, 50_000);
        signature = 3;
        await AssertContentAsync(graph);
    }

    [Fact]
    public async Task Nobody_else_gets_passwords_and_cookies()
    {
        using var other = new FakeWebServer(_content);
        string basic = "Basic " + Convert.ToBase64String("alice:geheim"u8);
        _server.Answer = request => request["Authorization"] != basic
            ? FakeWebServer.Reply("HTTP/1.1 401 Who\nWWW-Authenticate: Basic realm=\"x\"\nContent-Length: 0", [])
            : FakeWebServer.Reply($"HTTP/1.1 302 To\nContent-Length: 0\nLocation: {other.Url("moved.raw")}", []);
        other.Answer = request => request["Authorization"] is null && !other.Requests.Any(r => r.Path == "/again")
            ? other.Usual(request) : FakeWebServer.Reply("HTTP/1.1 400 No\nContent-Length: 0", []);
        await using (Graph graph = await TestGraph.OpenOptionsAsync(
            $"driver=raw,file.driver=http,file.url=http://alice:geheim@{_server.Peer}/disk.raw,file.cookie=id=42"))
        {
            await ReadAsync(graph, 5000);
        }

        Assert.Contains(_server.Requests, request => request["Authorization"] == basic);
        Assert.All(_server.Requests, request => Assert.Equal("id=42", request["Cookie"]));
        Assert.NotEmpty(other.Requests);
        Assert.All(other.Requests, request => Assert.Null(request["Authorization"]));
        Assert.All(other.Requests, request => Assert.Null(request["Cookie"]));

        // Not even when it asks for them.
        other.Answer = _ => FakeWebServer.Reply("HTTP/1.1 401 Who\nWWW-Authenticate: Basic realm=\"x\"\nContent-Length: 0", []);
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await TestGraph.OpenAsync(
            $"http://alice:geheim@{_server.Peer}/disk.raw", new OpenFlags()));
        Assert.Equal(BlockErrorKind.PermissionDenied, e.Kind);
        Assert.DoesNotContain("geheim", e.Describe(), StringComparison.Ordinal);
        Assert.All(other.Requests, request => Assert.Null(request["Authorization"]));
    }

    [Fact]
    public async Task A_server_that_takes_no_conditions_is_asked_without()
    {
        _server.Answer = request => request["If-Range"] is null ? _server.Usual(request)
            : FakeWebServer.Reply($"HTTP/1.1 200 OK\nContent-Length: {Length}\nETag: \"one\"", _content);
        await using Graph graph = await OpenAsync();
        await AssertContentAsync(graph);
    }

    [Fact]
    public async Task A_change_between_two_parts_of_a_read_is_never_mixed()
    {
        await using Graph graph = await OpenAsync();
        _server.Answer = request =>
        {
            (long first, long last) = request.Range;
            long middle = first + ((last - first) / 2);
            byte[] answer = _server.Part(first, middle, $"bytes {first}-{middle}/{Length}");
            _server.Content = TestPattern.Make(Length, 0, 10);
            _server.Tag = "\"two\"";
            _server.Answer = _server.Usual;
            return answer;
        };
        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await ReadAsync(graph, 5000));
        Assert.Contains("has changed", e.Describe(), StringComparison.Ordinal);
        await Assert.ThrowsAsync<BlockException>(async () => await ReadAsync(graph, 90_000));
    }

    [Fact]
    public async Task A_spooled_download_that_breaks_begins_anew()
    {
        int count = 0;
        byte[] head = FakeWebServer.Reply($"HTTP/1.1 200 OK\nContent-Length: {Length}", []);
        _server.Answer = request => request["Range"] is null && ++count < 3
            ? [.. head, .. _content.AsSpan(0, Length * count / 4), .. Encoding.Latin1.GetBytes(FakeWebServer.Hangup)]
            : [.. head, .. _content];
        await using Graph graph = await OpenAsync(new OpenFlags { Spool = true });
        await AssertContentAsync(graph);
        Assert.Equal(3, count);
    }

    [Fact]
    public async Task A_file_of_unknown_length_is_spooled_with_a_warning()
    {
        byte[] head = FakeWebServer.Reply("HTTP/1.0 200 OK", []);
        _server.Answer = _ => [.. head, .. _content, .. Encoding.Latin1.GetBytes(FakeWebServer.Hangup)];
        await using Graph graph = await OpenAsync(new OpenFlags { Spool = true });
        await AssertContentAsync(graph);
        Assert.Contains(graph.Warnings, warning => warning.Contains("how long", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Damaged_answers_give_the_right_bytes_or_an_error(int seed)
    {
        var random = new Random(seed);
        for (int round = 0; round < 60; round++)
        {
            using var server = new FakeWebServer(_content);
            server.Answer = request =>
            {
                lock (random)
                {
                    return Damage(server.Usual(request), random);
                }
            };
            string at = $"seed {seed}, round {round}";
            try
            {
                await using Graph graph = await TestGraph.OpenOptionsAsync(
                    $"driver=raw,file.driver=http,file.url={server.Url()},file.reconnect-delay=0,file.timeout=5");
                Assert.True(graph.Root.Length == Length, at);
                var found = new byte[3000];
                await graph.Root.ReadAsync(777, found).AsTask().WaitAsync(TimeSpan.FromSeconds(20));
                Assert.True(found.AsSpan().SequenceEqual(_content.AsSpan(777, 3000)), at);
            }
            catch (BlockException e)
            {
                Assert.True(e.Describe().Length > 10, at);
            }
        }
    }

    /// <summary>Damages the header only: a body has no check of its own.</summary>
    private static byte[] Damage(byte[] answer, Random random)
    {
        int end = answer.AsSpan().IndexOf("\r\n\r\n"u8);
        string[] lines = Encoding.Latin1.GetString(answer, 0, end).Split("\r\n");
        for (int i = random.Next(3); i > 0; i--)
        {
            int line = random.Next(lines.Length);
            string text = lines[line];
            int at = random.Next(text.Length + 1);
            lines[line] = random.Next(6) switch
            {
                0 => text[..at],
                1 when at < text.Length && !char.IsAsciiDigit(text[at]) => text[..at] + (char)random.Next(32, 127) + text[(at + 1)..],
                2 => text + "\r\n" + text,
                3 => "X: y",
                4 => text.Replace("206", $"{random.Next(200, 599)}"),
                _ => text,
            };
        }

        byte[] head = Encoding.Latin1.GetBytes(string.Join("\r\n", lines) + "\r\n\r\n");
        byte[] hangup = random.Next(2) == 0 ? [] : Encoding.Latin1.GetBytes(FakeWebServer.Hangup);
        return [.. head, .. answer[(end + 4)..], .. hangup];
    }

    private ValueTask<Graph> OpenAsync(OpenFlags? flags = null) => TestGraph.OpenOptionsAsync(
        $"driver=raw,file.driver=http,file.url={_server.Url()},file.timeout=10,file.reconnect-delay=5", flags);

    private byte[] Chunked(long first, long last)
    {
        byte[] body = _content[(int)first..(int)(last + 1)];
        int half = body.Length / 2;
        byte[] Size(int size) => Encoding.ASCII.GetBytes($"{size:x}\r\n");
        return
        [
            .. FakeWebServer.Reply(
                $"HTTP/1.1 206 P\nTransfer-Encoding: chunked\nContent-Range: bytes {first}-{last}/{Length}\nETag: \"one\"", []),
            .. half > 0 ? [.. Size(half), .. body[..half], .. "\r\n"u8] : (byte[])[],
            .. Size(body.Length - half), .. body[half..], .. "\r\n0\r\n\r\n"u8,
        ];
    }

    private async Task ReadAsync(Graph graph, int offset)
    {
        var found = new byte[10_000];
        await graph.Root.ReadAsync(offset, found);
        TestPattern.AssertEqual(_content.AsSpan(offset, found.Length), found, offset, "part");
    }

    private async Task AssertContentAsync(Graph graph)
    {
        var found = new byte[graph.Root.Length];
        for (int at = 0; at < found.Length; at += 7000)
        {
            await graph.Root.ReadAsync(at, found.AsMemory(at, Math.Min(7000, found.Length - at)));
        }

        TestPattern.AssertEqual(_content, found, 0, "all of it");
    }
}
