using System.Net.Sockets;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;
using ImageMount.Protocols.Remote.Tls;

namespace ImageMount.Protocols.Nbd;

/// <summary>Makes connections to one export: socket, TLS where wanted, handshake.</summary>
/// <param name="address">The server.</param>
/// <param name="export">Name of the export.</param>
/// <param name="context">Context for block status, or null for none.</param>
/// <param name="tls">Makes connections secure; null for plain text.</param>
internal sealed class NbdConnector(RemoteAddress address, string export, string? context, TlsClient? tls)
{
    private Exception? _whyNoMore;

    /// <summary>What messages call the server.</summary>
    public string Peer => address.Shown;

    /// <summary>Why another connection could not be made, for `info`; null when none failed.</summary>
    public string? WhyNoMore => _whyNoMore?.Message;

    /// <summary>Connects.</summary>
    public async Task<NbdConnection> ConnectAsync(CancellationToken cancellationToken)
    {
        Socket socket = await address.ConnectAsync(cancellationToken).ConfigureAwait(false);
        var io = new NbdHandshakeStream(new NetworkStream(socket, ownsSocket: true), Peer);
        try
        {
            NbdExport result = await NbdHandshake.RunAsync(
                io, export, context, tls is null ? null : (stream, token) => tls.SecureAsync(stream, Peer, token),
                cancellationToken).ConfigureAwait(false);
            var connection = new NbdConnection(socket, io.Stream, result, Peer);
            connection.Start();
            return connection;
        }
        catch
        {
            await io.Stream.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Remembers why there will be no more connections.</summary>
    public void NoMore(Exception why) => _whyNoMore = why;
}
