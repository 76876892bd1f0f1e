using System.Net;
using System.Net.Sockets;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>Where a server listens: TCP or a unix socket of this host.</summary>
internal sealed record RemoteAddress
{
    private RemoteAddress()
    {
    }

    /// <summary>Host name or address; empty for a unix socket.</summary>
    public string Host { get; private init; } = "";

    /// <summary>TCP port.</summary>
    public int Port { get; private init; }

    /// <summary>Path of a unix socket, or null.</summary>
    public string? SocketPath { get; private init; }

    /// <summary>"host:port" or the path.</summary>
    public string Shown => SocketPath ?? $"{RemoteUri.Bracket(Host)}:{Port}";

    /// <summary>A TCP address.</summary>
    public static RemoteAddress Tcp(string host, int port) => new() { Host = host, Port = port };

    /// <summary>A unix socket. The path is made absolute, as the working directory changes before a reconnection.</summary>
    public static RemoteAddress Unix(string path) => new() { SocketPath = Path.GetFullPath(path) };

    /// <summary>Connects; every address of a host is tried.</summary>
    /// <exception cref="BlockException">It cannot be reached.</exception>
    public async Task<Socket> ConnectAsync(CancellationToken cancellationToken)
    {
        Socket? socket = null;
        try
        {
            if (SocketPath is not null)
            {
                socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath), cancellationToken).ConfigureAwait(false);
            }
            else
            {
                socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                await socket.ConnectAsync(Host, Port, cancellationToken).ConfigureAwait(false);
                socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
            }

            return socket;
        }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            socket?.Dispose();
            throw NetworkErrors.Connect(e, Shown);
        }
        catch
        {
            socket?.Dispose();
            throw;
        }
    }
}
