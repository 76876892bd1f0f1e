using System.Net;
using System.Net.Sockets;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Iscsi;

/// <summary>
/// Makes sessions with one unit: finds addresses (the library would wait for a name server), follows redirections.
/// </summary>
/// <param name="settings">What there is to know.</param>
/// <param name="clock">For pauses.</param>
internal sealed class IscsiConnector(IscsiSettings settings, TimeProvider clock)
{
    private const int MaxRedirections = 4;

    /// <summary>What messages call the portal.</summary>
    public string Peer => settings.Address.Shown;

    /// <summary>How long a unit may put a command off.</summary>
    public TimeSpan Patience => TimeSpan.FromSeconds(settings.Timeout == 0 ? 60 : settings.Timeout);

    /// <summary>Logs in, and asks the unit what it is.</summary>
    public async Task<IscsiSession> ConnectAsync(CancellationToken cancellationToken)
    {
        RemoteAddress address = settings.Address;
        for (int redirections = 0; redirections <= MaxRedirections; redirections++)
        {
            try
            {
                IscsiSession session = await LogInAsync(address, cancellationToken).ConfigureAwait(false);
                return await InspectAsync(session, cancellationToken).ConfigureAwait(false);
            }
            catch (IscsiRedirectException e)
            {
                address = AddressOf(e.Address);
            }
        }

        throw new BlockException(BlockErrorKind.LimitExceeded, $"{Peer} sends us from one address to the next")
        {
            Expected = $"at most {MaxRedirections} redirections",
        };
    }

    private static RemoteAddress AddressOf(string text)
    {
        int comma = text.LastIndexOf(','); // What follows is the number of a portal group.
        try
        {
            (string host, int? port) = RemoteUri.HostAndPort(comma < 0 ? text : text[..comma], "host[:port]");
            return RemoteAddress.Tcp(host, port ?? IscsiUri.DefaultPort);
        }
        catch (BlockException e)
        {
            throw new BlockException(BlockErrorKind.InvalidData, "the target sends us to an address that is none", e);
        }
    }

    private async Task<IscsiSession> InspectAsync(IscsiSession session, CancellationToken cancellationToken)
    {
        // Nobody watches the session yet.
        using CancellationTokenRegistration registration = cancellationToken.UnsafeRegister(
            static state => ((IscsiSession)state!).Abort(new BlockException(BlockErrorKind.Cancelled, "cancelled")), session);
        try
        {
            session.Unit = await new IscsiUnitInspector(session, clock, Patience).InspectAsync(cancellationToken)
                .ConfigureAwait(false);
            return session;
        }
        catch
        {
            await session.CloseAsync().ConfigureAwait(false);
            throw;
        }
    }

    private async Task<IscsiSession> LogInAsync(RemoteAddress address, CancellationToken cancellationToken)
    {
        IPAddress[] found;
        try
        {
            found = IPAddress.TryParse(address.Host, out IPAddress? literal)
                ? [literal] : await Dns.GetHostAddressesAsync(address.Host, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            throw NetworkErrors.Connect(e, address.Shown);
        }

        IscsiUnreachableException? last = null;
        foreach (IPAddress ip in found)
        {
            try
            {
                return await IscsiSession.ConnectAsync(
                    settings.Login, RemoteAddress.Tcp(ip.ToString(), address.Port).Shown, address.Shown, settings.Lun,
                    cancellationToken).ConfigureAwait(false);
            }
            catch (IscsiUnreachableException e)
            {
                last = e;
            }
        }

        // The library only has words for it; a try of our own has a reason, unless somebody listens there now.
        using Socket socket = await address.ConnectAsync(cancellationToken).ConfigureAwait(false);
        throw last?.Reason ?? NetworkErrors.Connect(new SocketException((int)SocketError.HostNotFound), address.Shown);
    }
}
