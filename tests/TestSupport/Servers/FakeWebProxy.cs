using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace ImageMount.TestSupport.Servers;

/// <summary>
/// A web proxy of our own, for one login: whole URLs, and CONNECT. It hands headers on as they are, those for itself too, so
/// that a server sees what a client sent.
/// </summary>
public sealed class FakeWebProxy : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly string _login;

    /// <summary>Listens.</summary>
    /// <param name="user">Who may use it.</param>
    /// <param name="password">With what.</param>
    public FakeWebProxy(string user, string password)
    {
        _login = "Basic " + Convert.ToBase64String(Encoding.UTF8.GetBytes($"{user}:{password}"));
        _listener.Start(64);
        _ = AcceptAsync();
    }

    /// <summary>For the environment.</summary>
    public string Url => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    /// <summary>First lines and headers of what it was asked and let through.</summary>
    public ConcurrentQueue<string> Passed { get; } = [];

    /// <summary>How often it wanted to know who asks.</summary>
    public int Refused => _refused;

    private int _refused;

    /// <inheritdoc/>
    public void Dispose()
    {
        _stop.Cancel();
        _listener.Stop();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                Socket socket = await _listener.AcceptSocketAsync(_stop.Token);
                _ = Task.Run(() => ServeAsync(socket));
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // At its end.
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        try
        {
            await using var client = new NetworkStream(socket, ownsSocket: true);
            while (await ReadHeaderAsync(client) is { } header)
            {
                if (!header.Contains($"Proxy-Authorization: {_login}\r\n", StringComparison.OrdinalIgnoreCase))
                {
                    Interlocked.Increment(ref _refused);
                    await client.WriteAsync(
                        FakeWebServer.Reply("HTTP/1.1 407 Who\nProxy-Authenticate: Basic realm=\"p\"\nContent-Length: 0", []),
                        _stop.Token);
                    continue;
                }

                Passed.Enqueue(header);
                await PassAsync(client, header);
                return; // One request a connection is enough here.
            }
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // One of the two has gone, or the test is over.
        }
    }

    private async Task PassAsync(NetworkStream client, string header)
    {
        string[] first = header[..header.IndexOf('\r', StringComparison.Ordinal)].Split(' ');
        bool isTunnel = first[0] == "CONNECT";
        var target = new Uri(isTunnel ? $"https://{first[1]}" : first[1]);
        using var socket = new TcpClient();
        await socket.ConnectAsync(target.Host, target.Port, _stop.Token);
        NetworkStream server = socket.GetStream();
        byte[] beginning = Encoding.Latin1.GetBytes(
            isTunnel ? "HTTP/1.1 200 Through\r\n\r\n" : header.Replace(first[1], target.PathAndQuery, StringComparison.Ordinal));
        await (isTunnel ? client : server).WriteAsync(beginning, _stop.Token);
        Task up = client.CopyToAsync(server, _stop.Token);
        Task down = server.CopyToAsync(client, _stop.Token);
        await Task.WhenAny(up, down);
    }

    private async Task<string?> ReadHeaderAsync(NetworkStream client)
    {
        var header = new StringBuilder();
        var one = new byte[1];
        while (!header.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal))
        {
            if (await client.ReadAsync(one, _stop.Token) == 0)
            {
                return null;
            }

            header.Append((char)one[0]);
        }

        return header.ToString();
    }
}
