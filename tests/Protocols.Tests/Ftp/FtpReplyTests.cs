using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Protocols.Ftp;
using ImageMount.TestSupport;
using ImageMount.TestSupport.Servers;
using Xunit;

namespace ImageMount.Protocols.Tests.Ftp;

/// <summary>Replies that an FTP server may give, from literal bytes.</summary>
public sealed class FtpReplyTests : IDisposable
{
    private const int Length = 3_000_000;
    private readonly byte[] _content = TestPattern.Make(Length, 0, 19);
    private readonly FakeFtpServer _server;

    public FtpReplyTests() => _server = new FakeFtpServer(_content);

    public void Dispose() => _server.Dispose();

    [Theory]
    [InlineData("Entering (|||6446|)", 6446)]
    [InlineData("(!!!1!)", 1)]
    [InlineData("(|||65536|)", null)]
    [InlineData("(|||0|)", null)]
    [InlineData("(|||x|)", null)]
    [InlineData("(|", null)]
    [InlineData("", null)]
    public void Ports_of_EPSV(string text, int? port) => Assert.Equal(port, FtpControl.PortOfEpsv(text));

    [Theory]
    [InlineData("Entering Passive Mode (127,0,0,1,4,5).", 1029)]
    [InlineData("=127,0,0,1,4,5", 1029)]
    [InlineData("(1,2,3,4,5,256)", null)]
    [InlineData("(1,2,3,4,5)", null)]
    [InlineData("(1,2,3,4,0,0)", null)]
    [InlineData("nothing", null)]
    public void Ports_of_PASV(string text, int? port) => Assert.Equal(port, FtpControl.PortOfPasv(text));

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Reading_in_every_manner_gives_the_bytes(bool hasRange)
    {
        if (hasRange)
        {
            _server.Features.Add("RANG STREAM");
        }

        await using Graph graph = await OpenAsync();
        await AssertContentAsync(graph, 65_536);
        var random = new Random(4);
        await Task.WhenAll(Enumerable.Range(0, 60).Select(_ => ReadAsync(graph, random.Next(Length - 10_000))));
    }

    [Fact]
    public async Task A_reader_in_order_has_one_transfer()
    {
        await using Graph graph = await OpenAsync();
        await AssertContentAsync(graph, 65_536);
        int transfers = _server.Commands.Count(command => command.StartsWith("RETR", StringComparison.Ordinal));
        Assert.True(transfers <= 4, $"{transfers} transfers"); // The first for the head, the last for the tail: probing.
    }

    [Fact]
    public async Task Old_servers_are_understood()
    {
        _server.Answer = command => command is "EPSV" or "FEAT" || command.StartsWith("SIZE", StringComparison.Ordinal)
            || command.StartsWith("MDTM", StringComparison.Ordinal) ? "500 What\r\n" : null;
        await using Graph graph = await OpenAsync();
        await ReadAsync(graph, 5000);
        Assert.Single(_server.Commands.Where(command => command == "EPSV").Take(2)); // Not asked again.
    }

    [Theory]
    [InlineData("", "nonsense\r\n", "does not speak FTP")]
    [InlineData("", "220-Hello\r\n", null)]
    [InlineData("", "530 Go away\r\n", "user name or password")]
    [InlineData("", "421 Too many\r\n", "421")]
    [InlineData("", "", "closed")]
    [InlineData("USER anonymous", "332 Account\r\n", "332")]
    [InlineData("PASS imgmount@", "530 No\r\n", "user name or password")]
    [InlineData("TYPE I", "504 No\r\n", "binary")]
    [InlineData("REST 0", "502 No\r\n", "middle of a file")]
    [InlineData("SIZE disk.raw", "550 No\r\n", "no such file")]
    [InlineData("SIZE disk.raw", "999 No\r\n", "does not speak FTP")]
    [InlineData("SIZE disk.raw", "213 12-Z\r\n", null)]
    public async Task Wrong_replies_at_the_beginning(string command, string reply, string? message)
    {
        _server.Answer = asked => asked == command ? reply : null;
        if (message is null && command.Length > 0)
        {
            await using Graph graph = await OpenAsync(); // MLST has it.
            Assert.Equal(Length, graph.Root.Length);
            return;
        }

        BlockException e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync());
        Assert.Contains(message ?? "did not answer", e.Describe(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("EPSV", "229 (|||0|)\r\n", "no port")]
    [InlineData("RETR disk.raw", "550 No\r\n", "no such file")]
    [InlineData("RETR disk.raw", "226 Done\r\n", "before it began")]
    [InlineData("RETR disk.raw", "425 No data\r\n", "data connection")]
    [InlineData("RETR disk.raw", "", "closed")]
    [InlineData("REST 1000000", "550 No\r\n", "no such file")]
    [InlineData("REST 1000000", "200 What\r\n", "wrong reply")]
    public async Task Wrong_replies_later(string command, string reply, string message)
    {
        await using Graph graph = await OpenAsync("file.reconnect-delay=1,file.timeout=2,file.readahead=0");
        _server.Answer = asked => asked == command ? reply : null;
        BlockException e = await Assert.ThrowsAsync<BlockException>(() => ReadAsync(graph, 1_000_000));
        Assert.Contains(message, e.Describe(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Broken_transfers_are_repeated()
    {
        await using Graph graph = await OpenAsync();
        int count = 0;
        _server.Data = (_, bytes) =>
        {
            _server.Done = Interlocked.Increment(ref count) % 2 == 1 ? "426 Broken\r\n" : "226 Done\r\n";
            return count % 2 == 1 ? bytes[..(bytes.Length / 3)] : bytes;
        };
        await AssertContentAsync(graph, 1_000_000);
        _server.Break();
        await ReadAsync(graph, 1_234_567);
    }

    [Fact]
    public async Task A_server_that_allows_one_connection_is_read_through_that()
    {
        int logins = 0;
        _server.Answer = command => command == "" && Interlocked.Increment(ref logins) > 1 ? "421 One only\r\n" : null;
        await using Graph graph = await OpenAsync("file.reconnect-delay=5");
        await Task.WhenAll(Enumerable.Range(0, 8).Select(i => ReadAsync(graph, i * 300_000)));
    }

    [Theory]
    [InlineData("shorter")]
    [InlineData("longer")]
    [InlineData("modified")]
    public async Task A_file_that_changes_is_noticed(string how)
    {
        await using Graph graph = await OpenAsync("file.connections=1,file.readahead=0");
        _server.Data = (_, bytes) => how == "shorter" ? bytes[..^10] : how == "longer" ? [.. bytes, 1] : bytes;
        if (how == "modified")
        {
            _server.Modified = "20200101000001";
            _server.Break(); // A new connection looks at once; an old one after a second.
        }

        BlockException e = await Assert.ThrowsAsync<BlockException>(() => ReadAsync(graph, Length - 10_000));
        Assert.Contains("has changed", e.Describe(), StringComparison.Ordinal);
        await Assert.ThrowsAsync<BlockException>(() => ReadAsync(graph, 0));
    }

    [Theory]
    [InlineData("ftp://h/", "names no file")]
    [InlineData("ftp:///x", "names no host")]
    [InlineData("ftp://h/a%0d%0aDELE%20b", "line end")]
    [InlineData("ftp://h:0/x", "port")]
    public void Wrong_URLs_are_refused(string url, string message)
    {
        BlockException e = Assert.Throws<BlockException>(() => TestGraph.Parser.Parse(url));
        Assert.Contains(message, e.Describe(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Damaged_replies_give_the_right_bytes_or_an_error(int seed)
    {
        var random = new Random(seed);
        for (int round = 0; round < 25; round++)
        {
            using var server = new FakeFtpServer(_content);
            int at = random.Next(12);
            int count = 0;
            string reply = string.Concat(Enumerable.Range(0, random.Next(30)).Select(_ => "12345-0 \r\n(|),x"[random.Next(15)]));
            server.Answer = _ => Interlocked.Increment(ref count) == at ? reply + "\r\n" : null;
            try
            {
                await using Graph graph = await TestGraph.OpenOptionsAsync(
                    $"driver=raw,file.driver=ftp,file.url={server.Url},file.netrc=,file.reconnect-delay=0,file.timeout=1");
                Assert.True(graph.Root.Length == Length, $"seed {seed}, round {round}: length {graph.Root.Length}");
                var found = new byte[3000];
                await graph.Root.ReadAsync(777, found).AsTask().WaitAsync(TimeSpan.FromSeconds(20));
                Assert.True(found.AsSpan().SequenceEqual(_content.AsSpan(777, 3000)), $"seed {seed}, round {round}");
            }
            catch (BlockException e)
            {
                Assert.True(e.Describe().Length > 10, $"seed {seed}, round {round}");
            }
        }
    }

    private ValueTask<Graph> OpenAsync(string options = "file.reconnect-delay=5") => TestGraph.OpenOptionsAsync(
        $"driver=raw,file.driver=ftp,file.netrc=,file.url={_server.Url},{options}"
        + (options.Contains("timeout", StringComparison.Ordinal) ? "" : ",file.timeout=3"), new OpenFlags());

    private async Task ReadAsync(Graph graph, int offset)
    {
        var found = new byte[10_000];
        await graph.Root.ReadAsync(offset, found);
        TestPattern.AssertEqual(_content.AsSpan(offset, found.Length), found, offset, "part");
    }

    private async Task AssertContentAsync(Graph graph, int step)
    {
        var found = new byte[Length];
        for (int at = 0; at < Length; at += step)
        {
            await graph.Root.ReadAsync(at, found.AsMemory(at, Math.Min(step, Length - at)));
        }

        TestPattern.AssertEqual(_content, found, 0, "all of it");
    }
}
