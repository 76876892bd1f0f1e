using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace ImageMount.TestSupport.Servers;

/// <summary>
/// An FTP server of our own on a free port of the loopback, with one file. Every reply can be replaced by literal bytes.
/// </summary>
public sealed class FakeFtpServer : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly ConcurrentBag<IDisposable> _open = [];
    private readonly CancellationTokenSource _stop = new();

    /// <summary>Listens.</summary>
    public FakeFtpServer(byte[] content)
    {
        Content = content;
        _listener.Start(64);
        _ = AcceptAsync();
    }

    /// <summary>The file.</summary>
    public byte[] Content { get; set; }

    /// <summary>What FEAT lists.</summary>
    public List<string> Features { get; } = [];

    /// <summary>Its time.</summary>
    public string Modified { get; set; } = "20200101000000";

    /// <summary>
    /// What to answer to a command ("" is the greeting) instead of the usual, with line ends; null: the usual. After "" the
    /// connection is closed.
    /// </summary>
    public Func<string, string?> Answer { get; set; } = _ => null;

    /// <summary>Changes the bytes of a transfer, which begins at an offset.</summary>
    public Func<long, byte[], byte[]> Data { get; set; } = (_, bytes) => bytes;

    /// <summary>What ends a transfer.</summary>
    public string Done { get; set; } = "226 Done\r\n";

    /// <summary>Commands so far.</summary>
    public ConcurrentQueue<string> Commands { get; } = [];

    /// <summary>A URL.</summary>
    public string Url => $"ftp://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}/disk.raw";

    /// <summary>Breaks all connections off.</summary>
    public void Break()
    {
        while (_open.TryTake(out IDisposable? one))
        {
            one.Dispose();
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
                TcpClient client = await _listener.AcceptTcpClientAsync(_stop.Token);
                _open.Add(client);
                _ = Task.Run(() => ServeAsync(client));
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // At its end.
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        TcpListener? passive = null;
        try
        {
            await using NetworkStream stream = client.GetStream();
            using var reader = new StreamReader(stream, Encoding.UTF8);
            long first = 0;
            long last = -1;
            string? command = "";
            while (command is not null)
            {
                string? reply = Answer(command);
                string[] words = command.Split(' ');
                if (reply is null && words[0] is "EPSV" or "PASV")
                {
                    passive?.Stop();
                    passive = new TcpListener(IPAddress.Loopback, 0);
                    passive.Start();
                    _open.Add(passive);
                }

                int port = passive is null ? 0 : ((IPEndPoint)passive.LocalEndpoint).Port;
                if (words[0] is "REST" or "RANG")
                {
                    first = long.Parse(words[1], CultureInfo.InvariantCulture);
                    last = words.Length > 2 ? long.Parse(words[2], CultureInfo.InvariantCulture) : -1;
                }

                if (reply is null && words[0] == "RETR")
                {
                    await SendAsync(stream, "150 Here\r\n");
                    reply = await TransferAsync(passive!, first, last < 0 ? Content.Length : last + 1) ? Done : "426 Broken\r\n";
                    (first, last) = (0, -1);
                }

                reply ??= words[0] switch
                {
                    "" => "220-Hello\r\n 220 not yet\r\n220 Ready\r\n",
                    "USER" => "331 Password\r\n",
                    "PASS" => "230 In\r\n",
                    "FEAT" => "211-Features\r\n" + string.Concat(Features.Select(f => $" {f}\r\n")) + "211 End\r\n",
                    "EPSV" => $"229 Here (|||{port}|)\r\n",
                    "PASV" => $"227 Here (10,255,255,1,{port / 256},{port % 256}).\r\n", // Not where we are.
                    "REST" or "RANG" => "350 Go on\r\n",
                    "SIZE" => $"213 {Content.Length}\r\n",
                    "MDTM" => $"213 {Modified}\r\n",
                    "MLST" => $"250-Facts\r\n Type=file;Size={Content.Length};Modify={Modified}; disk.raw\r\n250 End\r\n",
                    "TYPE" or "PBSZ" or "OPTS" => "200 Fine\r\n",
                    _ => "502 No\r\n",
                };
                await SendAsync(stream, reply);
                if (reply.Length == 0)
                {
                    return;
                }

                command = await reader.ReadLineAsync(_stop.Token);
                Commands.Enqueue(command ?? "(end)");
            }
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException
            or OperationCanceledException or InvalidOperationException)
        {
            // The client has gone, or the test is over.
        }
        finally
        {
            passive?.Stop();
        }
    }

    private async Task<bool> TransferAsync(TcpListener passive, long first, long end)
    {
        using TcpClient data = await passive.AcceptTcpClientAsync(_stop.Token);
        _open.Add(data);
        try
        {
            await using NetworkStream stream = data.GetStream();
            await stream.WriteAsync(Data(first, Content[(int)first..(int)end]), _stop.Token);
            return true;
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            return false;
        }
    }

    private async Task SendAsync(NetworkStream stream, string text) =>
        await stream.WriteAsync(Encoding.Latin1.GetBytes(text), _stop.Token);
}
