using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using ImageMount.Core.Block;
using ImageMount.Core.Secrets;
using ImageMount.Protocols.Remote;
using ImageMount.Protocols.Remote.Tls;

namespace ImageMount.Protocols.Http;

/// <summary>Everything that clients for one disk are made from, secrets included; they go only where they belong.</summary>
internal sealed class HttpClientSettings
{
    private readonly TlsClient? _tls;
    private readonly X509Certificate2Collection? _authorities;
    private readonly bool _verify;
    private readonly CredentialCache? _login;
    private readonly NetworkCredential? _proxyLogin;
    private volatile string? _certificateProblem;

    /// <summary>Reads secrets and files.</summary>
    public HttpClientSettings(HttpOptions options, HttpPlace place, RemoteUri parts, SecretStore secrets)
    {
        Connections = options.Connections;
        _verify = options.SslVerify;
        if (options.TlsCreds is { } tls)
        {
            TlsCredentials credentials = secrets.GetTls(tls);
            if (credentials is not TlsX509Credentials x509)
            {
                throw BlockException.Unsupported("HTTPS needs certificates: tls-creds-x509, not a pre-shared key");
            }

            _verify &= x509.VerifyPeer;
            _tls = TlsClient.Create(credentials, parts.Host, secrets);
        }

        _authorities = options.CaCert is { } file ? ReadAuthorities(file) : null;
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

    /// <summary>What was wrong with the last certificate that was refused; or null.</summary>
    public string? CertificateProblem => _certificateProblem;

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
            SslOptions = _tls?.MakeOptions() ?? new SslClientAuthenticationOptions
            {
                CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
            },
        };
        handler.SslOptions.RemoteCertificateValidationCallback = Validate;
        if (_authorities is not null)
        {
            handler.SslOptions.CertificateChainPolicy = new X509ChainPolicy
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck,
            };
            handler.SslOptions.CertificateChainPolicy.CustomTrustStore.AddRange(_authorities);
        }

        return new HttpMessageInvoker(handler);
    }

    /// <summary>What went wrong on the way to a server or back.</summary>
    public BlockException Explain(Exception e, HttpPlace place)
    {
        if (e is AuthenticationException || e.InnerException is AuthenticationException)
        {
            string? problem = _certificateProblem;
            return problem is null
                ? new BlockException(BlockErrorKind.IoError, $"{place.Peer}: TLS could not be set up", e)
                : new BlockException(BlockErrorKind.PermissionDenied, $"{place.Peer}: the certificate is not trusted: {problem}", e)
                {
                    Hint = "Name the authority with cacert=FILE. sslverify=off takes any certificate, also that of an attacker.",
                };
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

    private static X509Certificate2Collection ReadAuthorities(string file)
    {
        var list = new X509Certificate2Collection();
        try
        {
            list.ImportFromPemFile(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, $"the certificates in {file} cannot be read", e);
        }

        return list.Count > 0 ? list
            : throw new BlockException(BlockErrorKind.InvalidArgument, $"there is no certificate in {file}") { Expected = "PEM" };
    }

    private bool Validate(object sender, X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        if (errors == SslPolicyErrors.None || !_verify)
        {
            return true;
        }

        X509ChainStatusFlags status = chain?.ChainStatus.Aggregate(
            X509ChainStatusFlags.NoError, (all, one) => all | one.Status) ?? X509ChainStatusFlags.NoError;
        _certificateProblem = certificate is null ? "there is none"
            : errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch) ? "it is for another host"
            : status.HasFlag(X509ChainStatusFlags.NotTimeValid) ? "it has expired, or is not valid yet"
            : "it is not signed by a known authority";
        return false;
    }
}
