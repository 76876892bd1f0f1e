using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using ImageMount.Core.Block;
using ImageMount.Core.Secrets;

namespace ImageMount.Protocols.Remote.Tls;

/// <summary>
/// Makes connections secure, as a client, by what `--object tls-creds-…` or the protocol's own options say. Files are read
/// once, when it is made; so a reconnection later needs none of them.
/// </summary>
internal sealed class TlsClient
{
    private readonly TlsPsk? _psk;
    private readonly X509Certificate2Collection? _authorities;
    private readonly X509Certificate2? _certificate;
    private readonly bool _verifies;
    private readonly string _host;

    private TlsClient(
        TlsPsk? psk, X509Certificate2Collection? authorities, X509Certificate2? certificate, bool verifies, string host)
    {
        _psk = psk;
        _authorities = authorities;
        _certificate = certificate;
        _verifies = verifies;
        _host = host;
    }

    /// <summary>Reads the credentials.</summary>
    /// <param name="credentials">Null: the system's authorities, no certificate of our own.</param>
    /// <param name="host">Name or address that the server's certificate must have.</param>
    /// <param name="secrets">For keys that are encrypted.</param>
    /// <exception cref="BlockException">Files are missing or damaged, or GnuTLS is not installed.</exception>
    public static TlsClient Create(TlsCredentials? credentials, string host, SecretStore secrets) => credentials switch
    {
        null => new TlsClient(null, null, null, true, host),
        TlsPskCredentials psk => new TlsClient(TlsPsk.Read(psk), null, null, true, host),
        TlsX509Credentials x509 => CreateX509(x509, host, secrets),
        _ => throw new InvalidOperationException($"unknown credentials {credentials.GetType()}"),
    };

    /// <summary>
    /// How SslStream, HttpClient and the like are to check the server and present ourselves. Not for pre-shared keys.
    /// </summary>
    public SslClientAuthenticationOptions MakeOptions()
    {
        var options = new SslClientAuthenticationOptions
        {
            TargetHost = _host,
            EnabledSslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
        };
        if (_certificate is not null)
        {
            options.ClientCertificates = [_certificate];
        }

        if (!_verifies)
        {
            options.RemoteCertificateValidationCallback = static (_, _, _, _) => true; // The user said so.
        }
        else if (_authorities is not null)
        {
            options.CertificateChainPolicy = new X509ChainPolicy
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck,
            };
            options.CertificateChainPolicy.CustomTrustStore.AddRange(_authorities);
        }

        return options;
    }

    /// <summary>Makes a connection secure. The stream that is returned owns <paramref name="inner"/>.</summary>
    /// <param name="inner">The connection.</param>
    /// <param name="peer">What messages call the server.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException">PermissionDenied: they do not trust each other.</exception>
    public async Task<Stream> SecureAsync(Stream inner, string peer, CancellationToken cancellationToken)
    {
        if (_psk is not null)
        {
            return await _psk.SecureAsync(inner, peer, cancellationToken).ConfigureAwait(false);
        }

        SslClientAuthenticationOptions options = MakeOptions();
        string? why = null;
        if (_verifies)
        {
            options.RemoteCertificateValidationCallback = (_, certificate, chain, errors) =>
            {
                why = Explain(errors, certificate as X509Certificate2, chain);
                return why is null;
            };
        }

        var stream = new SslStream(inner, leaveInnerStreamOpen: false);
        try
        {
            await stream.AuthenticateAsClientAsync(options, cancellationToken).ConfigureAwait(false);
            return stream;
        }
        catch (Exception e) when (e is AuthenticationException || NetworkErrors.IsNetwork(e))
        {
            await stream.DisposeAsync().ConfigureAwait(false);
            throw new BlockException(
                BlockErrorKind.PermissionDenied,
                why is null
                    ? $"the TLS handshake with {peer} failed: {(e.InnerException ?? e).Message.TrimEnd('.')}"
                    : $"the certificate of {peer} is refused: {why}",
                e)
            {
                Hint = why is not null ? null
                    : _certificate is null ? "The server may ask for a client certificate: client-cert.pem and client-key.pem."
                    : "The server may not accept our certificate.",
            };
        }
    }

    private string? Explain(SslPolicyErrors errors, X509Certificate2? certificate, X509Chain? chain)
    {
        if (errors == SslPolicyErrors.None)
        {
            return null;
        }

        if ((errors & SslPolicyErrors.RemoteCertificateNotAvailable) != 0)
        {
            return "it has none";
        }

        if ((errors & SslPolicyErrors.RemoteCertificateChainErrors) != 0)
        {
            string status = string.Join(
                ", ", chain?.ChainStatus.Select(item => item.StatusInformation.Trim().TrimEnd('.')).Distinct() ?? []);
            return status.Length == 0 ? "it does not come from a trusted authority" : status;
        }

        string names = certificate?.GetNameInfo(X509NameType.DnsName, forIssuer: false) ?? "";
        return $"it is not for '{_host}'" + (names.Length == 0 ? "" : $" but for '{names}'");
    }

    private static TlsClient CreateX509(TlsX509Credentials credentials, string host, SecretStore secrets)
    {
        if (credentials.Directory is null)
        {
            return new TlsClient(null, null, null, credentials.VerifyPeer, host);
        }

        string folder = credentials.Directory;
        string authority = Path.Combine(folder, "ca-cert.pem");
        string certificate = Path.Combine(folder, "client-cert.pem");
        string key = Path.Combine(folder, "client-key.pem");
        X509Certificate2Collection? trusted = null;
        if (credentials.VerifyPeer || File.Exists(authority))
        {
            trusted = [];
            Read(authority, () => trusted.ImportFromPemFile(authority));
            if (trusted.Count == 0)
            {
                throw new BlockException(BlockErrorKind.InvalidData, $"{authority} holds no certificate");
            }
        }

        X509Certificate2? own = null;
        if (File.Exists(certificate) || File.Exists(key))
        {
            Read(certificate, () => own = credentials.PasswordId is { } id
                ? X509Certificate2.CreateFromEncryptedPemFile(
                    certificate, System.Text.Encoding.UTF8.GetString(secrets.Get(id).Span), key)
                : X509Certificate2.CreateFromPemFile(certificate, key));
        }

        return new TlsClient(null, trusted, own, credentials.VerifyPeer, host);
    }

    private static void Read(string path, Action read)
    {
        try
        {
            read();
        }
        catch (Exception e) when (e is CryptographicException or IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new BlockException(
                e is FileNotFoundException or DirectoryNotFoundException ? BlockErrorKind.NotFound
                    : e is UnauthorizedAccessException ? BlockErrorKind.PermissionDenied : BlockErrorKind.InvalidData,
                $"the TLS certificate {path}, or its key, cannot be read: {e.Message.TrimEnd('.')}", e);
        }
    }
}
