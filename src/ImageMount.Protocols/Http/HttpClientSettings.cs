using System.Net;
using System.Security.Authentication;
using ImageMount.Core.Block;
using ImageMount.Core.Secrets;
using ImageMount.Protocols.Remote;
using ImageMount.Protocols.Remote.Tls;

namespace ImageMount.Protocols.Http;

/// <summary>Everything that clients for one disk are made from, secrets included; they go only where they belong.</summary>
internal sealed class HttpClientSettings
{
    private readonly TlsTrust _trust;
    private readonly CredentialCache? _login;
    private readonly NetworkCredential? _proxyLogin;

    /// <summary>Reads secrets and files.</summary>
    public HttpClientSettings(HttpOptions options, HttpPlace place, RemoteUri parts, SecretStore secrets)
    {
        Connections = options.Connections;
        _trust = new TlsTrust(options.SslVerify, options.CaCert, options.TlsCreds, parts.Host, secrets);
        if (Login.Find(parts, options.Username, options.PasswordSecret, options.Netrc, place.Origin, secrets) is { } login)
        {
            // Keyed by where it belongs: the client answers nobody else's challenge with it.
            var credential = new NetworkCredential(login.User, login.Password);
            _login = new CredentialCache { { new Uri(place.Origin), "Basic", credential }, { new Uri(place.Origin), "Digest", credential } };
        }

        if (options.ProxyUsername is { } user)
        {
            string password = options.ProxyPasswordSecret is { } id ? Login.TextOf(secrets.Get(id), id) : "";
            _proxyLogin = new NetworkCredential(user, password);
        }

        if (options is { Cookie: not null, CookieSecret: not null })
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "cookie and cookie-secret are both given");
        }

        Cookie = options.CookieSecret is { } cookie ? Login.TextOf(secrets.Get(cookie), cookie) : options.Cookie;
        if (Cookie?.AsSpan().ContainsAny('\r', '\n', '\0') == true)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the cookie has a line end in it");
        }
    }

    /// <summary>Requests at once.</summary>
    public int Connections { get; }

    /// <summary>Header Cookie, for the user's own server only; or null.</summary>
    public string? Cookie { get; }

    /// <summary>Makes a client; it follows no redirections and changes no bytes.</summary>
    public HttpMessageInvoker MakeClient()
    {
        var handler = new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            UseCookies = false,
            AutomaticDecompression = DecompressionMethods.None,
            ActivityHeadersPropagator = null,
            MaxConnectionsPerServer = Connections,
            ConnectTimeout = TimeSpan.FromSeconds(30),
            PooledConnectionIdleTimeout = TimeSpan.FromMinutes(1),
            PooledConnectionLifetime = TimeSpan.FromMinutes(15), // The host's address may change.
            MaxResponseDrainSize = 64 << 10, // A whole file that nobody asked for is not read to its end.
            Credentials = _login,
            PreAuthenticate = _login is not null,
            DefaultProxyCredentials = _proxyLogin,
            SslOptions = _trust.Options,
        };
        return new HttpMessageInvoker(handler);
    }

    /// <summary>What went wrong on the way to a server or back.</summary>
    public BlockException Explain(Exception e, HttpPlace place)
    {
        if ((e as AuthenticationException ?? e.InnerException as AuthenticationException) is { } refused)
        {
            return _trust.Explain(refused, place.Peer);
        }

        if (e is HttpRequestException { HttpRequestError: HttpRequestError.ProxyTunnelError } proxy)
        {
            return new BlockException(
                proxy.StatusCode == HttpStatusCode.ProxyAuthenticationRequired
                    ? BlockErrorKind.PermissionDenied : BlockErrorKind.IoError,
                $"the proxy does not lead to {place.Peer}", e);
        }

        return e is HttpRequestException { HttpRequestError: HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError }
            ? NetworkErrors.Connect(e, place.Peer)
            : e is HttpRequestException { HttpRequestError: HttpRequestError.InvalidResponse or HttpRequestError.ConfigurationLimitExceeded }
                ? new BlockException(BlockErrorKind.InvalidData, $"{place.Peer} does not speak HTTP properly", e)
                : NetworkErrors.Broken(e, place.Peer);
    }
}
