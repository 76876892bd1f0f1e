using System.Net.Sockets;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>The one table from failures of sockets, TLS and name lookup to <see cref="BlockException"/>.</summary>
internal static class NetworkErrors
{
    /// <summary>True for what sockets and streams over them throw.</summary>
    public static bool IsNetwork(Exception e) => e is SocketException or IOException or ObjectDisposedException;

    /// <summary>The failure to reach a server.</summary>
    /// <param name="e">What the socket said.</param>
    /// <param name="peer">Server, without secrets: "127.0.0.1:10809", "/run/x.sock".</param>
    public static BlockException Connect(Exception e, string peer)
    {
        SocketError code = CodeOf(e);
        (BlockErrorKind kind, string why, string? hint) = code switch
        {
            SocketError.ConnectionRefused =>
                (BlockErrorKind.IoError, "nobody listens there", "Check the port, and that the server runs."),
            SocketError.HostNotFound or SocketError.NoData or SocketError.TryAgain =>
                (BlockErrorKind.NotFound, "there is no such host", "Check the spelling, and the name server."),
            SocketError.TimedOut => (BlockErrorKind.TimedOut, "it does not answer", (string?)null),
            SocketError.NetworkUnreachable or SocketError.HostUnreachable =>
                (BlockErrorKind.IoError, "there is no way to it through the network", null),
            SocketError.AccessDenied => (BlockErrorKind.PermissionDenied, "access is denied", null),

            // A unix socket: .NET tells ENOENT as AddressNotAvailable.
            SocketError.AddressNotAvailable when peer.StartsWith('/') =>
                (BlockErrorKind.NotFound, "there is no such socket", "Check the path, and that the server runs."),
            _ => (BlockErrorKind.IoError, e.Message.TrimEnd('.'), null),
        };
        return new BlockException(kind, $"cannot connect to {peer}: {why}", e) { Hint = hint };
    }

    /// <summary>A connection that broke.</summary>
    public static BlockException Broken(Exception e, string peer) => new(
        CodeOf(e) == SocketError.TimedOut ? BlockErrorKind.TimedOut : BlockErrorKind.IoError,
        CodeOf(e) is SocketError.ConnectionReset or SocketError.Shutdown or SocketError.ConnectionAborted
            ? $"{peer} has broken off" : $"{peer}: {e.Message.TrimEnd('.')}",
        e);

    /// <summary>A peer that closed its side.</summary>
    public static BlockException Closed(string peer) => new(BlockErrorKind.IoError, $"{peer} has closed the connection");

    private static SocketError CodeOf(Exception e) =>
        (e as SocketException ?? e.InnerException as SocketException)?.SocketErrorCode ?? SocketError.SocketError;
}
