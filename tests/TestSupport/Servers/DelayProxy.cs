using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Threading.Channels;

namespace ImageMount.TestSupport.Servers;

/// <summary>
/// A slow wire: a TCP proxy through which every byte takes half of a round trip, in each direction. It can be cut, and it can
/// be frozen. On 127.0.0.1, with a port of its own, or with the same ports as a server on another address of the loopback.
/// </summary>
public sealed class DelayProxy : IDisposable
{
    private const int MostPieces = 64;

    private readonly List<TcpListener> _listeners = [];
    private readonly ConcurrentDictionary<Socket, bool> _sockets = [];
    private readonly CancellationTokenSource _stop = new();
    private readonly TimeSpan _delay;
    private volatile TaskCompletionSource _flows = Completed();

    /// <summary>Listens on a free port.</summary>
    public DelayProxy(int serverPort, int milliseconds)
        : this(milliseconds) => Port = Listen(new IPEndPoint(IPAddress.Loopback, 0), serverPort);

    /// <summary>
    /// Listens on the server's own ports, on <see cref="OtherHost"/>: for protocols in which a server names ports.
    /// </summary>
    public DelayProxy(IEnumerable<int> ports, int milliseconds)
        : this(milliseconds)
    {
        foreach (int port in ports)
        {
            Port = Listen(new IPEndPoint(IPAddress.Parse(OtherHost), port), port);
        }
    }

    private DelayProxy(int milliseconds) => _delay = TimeSpan.FromMilliseconds(milliseconds / 2.0);

    /// <summary>Where it is when it has the server's ports.</summary>
    public static string OtherHost => "127.0.0.2";

    /// <summary>Its port.</summary>
    public int Port { get; }

    /// <summary>Breaks all connections; how many there were.</summary>
    public int Cut()
    {
        Socket[] all = [.. _sockets.Keys];
        Array.ForEach(all, Close);
        return all.Length / 2;
    }

    /// <summary>Nothing moves any more, without anybody being told.</summary>
    public void Freeze() => _flows = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>It goes on.</summary>
    public void Thaw() => _flows.TrySetResult();

    /// <inheritdoc/>
    public void Dispose()
    {
        _stop.Cancel();
        _listeners.ForEach(listener => listener.Stop());
        Cut();
        Thaw();
    }

    private static TaskCompletionSource Completed()
    {
        var done = new TaskCompletionSource();
        done.SetResult();
        return done;
    }

    private int Listen(IPEndPoint own, int serverPort)
    {
        var listener = new TcpListener(own);
        listener.Start(64);
        _listeners.Add(listener);
        _ = AcceptAsync(listener, new IPEndPoint(IPAddress.Loopback, serverPort));
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private async Task AcceptAsync(TcpListener listener, IPEndPoint server)
    {
        try
        {
            while (true)
            {
                Socket client = await listener.AcceptSocketAsync(_stop.Token);
                _ = ServeAsync(client, server);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // At its end.
        }
    }

    private async Task ServeAsync(Socket client, IPEndPoint address)
    {
        var server = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        client.NoDelay = server.NoDelay = true;
        _sockets[client] = _sockets[server] = true;
        try
        {
            await server.ConnectAsync(address, _stop.Token);
            await Task.WhenAll(MoveAsync(client, server), MoveAsync(server, client));
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // One side is gone, or it was cut: the other hears of it below.
        }

        Close(client);
        Close(server);
    }

    private void Close(Socket socket)
    {
        _sockets.TryRemove(socket, out _);
        socket.Dispose();
    }

    /// <summary>One direction. When either end fails, both sockets go, and with them the other direction.</summary>
    private async Task MoveAsync(Socket from, Socket to)
    {
        var pieces = Channel.CreateBounded<(long Due, byte[] Bytes)>(MostPieces);
        Task sending = SendAsync(pieces.Reader, from, to);
        try
        {
            var buffer = new byte[64 << 10];
            int count;
            do
            {
                count = await from.ReceiveAsync(buffer, _stop.Token);
                long due = Stopwatch.GetTimestamp() + (long)(_delay.TotalSeconds * Stopwatch.Frequency);
                await pieces.Writer.WriteAsync((due, buffer[..count]), _stop.Token);
            }
            while (count > 0);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or ChannelClosedException)
        {
            Close(from);
            Close(to);
        }
        finally
        {
            pieces.Writer.TryComplete();
        }

        await sending;
    }

    private async Task SendAsync(ChannelReader<(long Due, byte[] Bytes)> pieces, Socket from, Socket to)
    {
        try
        {
            await foreach ((long due, byte[] bytes) in pieces.ReadAllAsync(_stop.Token))
            {
                TimeSpan wait = Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), due);
                if (wait >= TimeSpan.FromMilliseconds(1))
                {
                    using var timer = new PeriodicTimer(wait);
                    await timer.WaitForNextTickAsync(_stop.Token);
                }

                await _flows.Task.WaitAsync(_stop.Token);
                if (bytes.Length == 0)
                {
                    to.Shutdown(SocketShutdown.Send);
                    return;
                }

                await to.SendAsync(bytes, _stop.Token);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            Close(from);
            Close(to);
        }
    }
}
