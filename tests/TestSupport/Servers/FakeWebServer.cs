using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace ImageMount.TestSupport.Servers;

/// <summary>A request as it came.</summary>
/// <param name="Path">Path and query.</param>
/// <param name="Headers">Lines of the header, without the first.</param>
public sealed record FakeWebRequest(string Path, IReadOnlyList<string> Headers)
{
    /// <summary>Value of a header, or null.</summary>
    public string? this[string name] => Headers
        .Where(line => line.StartsWith(name + ":", StringComparison.OrdinalIgnoreCase))
        .Select(line => line[(name.Length + 1)..].Trim()).FirstOrDefault();

    /// <summary>First and last byte that is asked for.</summary>
    public (long First, long Last) Range
    {
        get
        {
            string[] ends = this["Range"]!["bytes=".Length..].Split('-');
            return (long.Parse(ends[0], CultureInfo.InvariantCulture), long.Parse(ends[1], CultureInfo.InvariantCulture));
        }
    }
}

/// <summary>
/// A web server of our own on a free port of the loopback: answers each request with literal bytes. After an answer of
/// null, or one that ends with <see cref="Hangup"/>, the connection is closed.
/// </summary>
public sealed class FakeWebServer : IDisposable
{
    /// <summary>At the end of an answer: the connection is closed after it.</summary>
    public const string Hangup = "\0hangup";

    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly ConcurrentBag<Socket> _connections = [];
    private readonly CancellationTokenSource _stop = new();
    private readonly X509Certificate2? _certificate;

    /// <summary>Listens.</summary>
    /// <param name="content">The file.</param>
    /// <param name="certificate">With its key, for HTTPS; or null.</param>
    public FakeWebServer(byte[] content, X509Certificate2? certificate = null)
    {
        _certificate = certificate;
        Content = content;
        Answer = Usual;
        _listener.Start(64);
        _ = AcceptAsync();
    }

    /// <summary>The file.</summary>
    public byte[] Content { get; set; }

    /// <summary>Its tag.</summary>
    public string Tag { get; set; } = "\"one\"";

    /// <summary>Gives the answer to a request.</summary>
    public Func<FakeWebRequest, byte[]?> Answer { get; set; }

    /// <summary>Called before each answer; may wait.</summary>
    public Func<FakeWebRequest, Task> Before { get; set; } = _ => Task.CompletedTask;

    /// <summary>Requests so far.</summary>
    public ConcurrentQueue<FakeWebRequest> Requests { get; } = [];

    /// <summary>Host and port.</summary>
    public string Peer => $"127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    /// <summary>A URL.</summary>
    public string Url(string path = "disk.raw") => $"http{(_certificate is null ? "" : "s")}://{Peer}/{path}";

    /// <summary>An answer: a header (lines end with LF here) and a body.</summary>
    public static byte[] Reply(string header, ReadOnlySpan<byte> body) =>
        [.. Encoding.Latin1.GetBytes(header.ReplaceLineEndings("\r\n") + "\r\n\r\n"), .. body];

    /// <summary>What a proper server answers.</summary>
    public byte[] Usual(FakeWebRequest request)
    {
        if (request["Range"] is null)
        {
            return Reply($"HTTP/1.1 200 OK\nContent-Length: {Content.Length}\nETag: {Tag}", Content);
        }

        (long first, long last) = request.Range;
        if (request["If-Range"] is { } condition && condition != Tag)
        {
            return Reply($"HTTP/1.1 200 OK\nContent-Length: {Content.Length}\nETag: {Tag}", Content);
        }

        if (first >= Content.Length)
        {
            return Reply($"HTTP/1.1 416 No\nContent-Range: bytes */{Content.Length}\nContent-Length: 0", []);
        }

        last = Math.Min(last, Content.Length - 1);
        return Part(first, last, $"bytes {first}-{last}/{Content.Length}");
    }

    /// <summary>A 206 with a Content-Range of choice.</summary>
    public byte[] Part(long first, long last, string range) => Reply(
        $"HTTP/1.1 206 Part\nContent-Range: {range}\nContent-Length: {last - first + 1}\nETag: {Tag}",
        Content.AsSpan((int)first, (int)(last - first + 1)));

    /// <summary>Breaks all connections off.</summary>
    public void Break()
    {
        foreach (Socket socket in _connections)
        {
            socket.Dispose();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _stop.Cancel();
        _listener.Stop();
        Break();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                Socket socket = await _listener.AcceptSocketAsync(_stop.Token);
                _connections.Add(socket);
                _ = Task.Run(() => ServeAsync(socket));
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // At its end.
        }
    }

    private async Task<Stream> SecureAsync(NetworkStream stream)
    {
        if (_certificate is null)
        {
            return stream;
        }

        var tls = new SslStream(stream);
        await tls.AuthenticateAsServerAsync(_certificate);
        return tls;
    }

    private async Task ServeAsync(Socket socket)
    {
        try
        {
            await using Stream stream = await SecureAsync(new NetworkStream(socket, ownsSocket: true));
            using var reader = new StreamReader(stream, Encoding.Latin1);
            while (await reader.ReadLineAsync(_stop.Token) is { } first)
            {
                var headers = new List<string>();
                while (await reader.ReadLineAsync(_stop.Token) is { Length: > 0 } line)
                {
                    headers.Add(line);
                }

                var request = new FakeWebRequest(first.Split(' ')[1], headers);
                Requests.Enqueue(request);
                await Before(request);
                byte[]? answer = Answer(request);
                byte[] hangup = Encoding.Latin1.GetBytes(Hangup);
                bool isLast = answer is null || answer.AsSpan().EndsWith(hangup);
                await stream.WriteAsync(isLast ? answer?[..^hangup.Length] ?? [] : answer, _stop.Token);
                if (isLast)
                {
                    return;
                }
            }
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException
            or OperationCanceledException or AuthenticationException)
        {
            // The client has gone, or the test is over.
        }
    }
}
