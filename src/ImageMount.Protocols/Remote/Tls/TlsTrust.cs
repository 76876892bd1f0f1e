using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using ImageMount.Core.Block;
using ImageMount.Core.Secrets;

namespace ImageMount.Protocols.Remote.Tls;

/// <summary>
/// How HTTPS and FTPS check servers, by the options `sslverify`, `cacert` and `tls-creds`; and what was wrong with a
/// certificate that was refused.
/// </summary>
internal sealed class TlsTrust
{
    private readonly bool _verify;
    private readonly string _host;
    private volatile string? _problem;

    /// <summary>Reads files.</summary>
    /// <param name="verify">Option `sslverify`.</param>
    /// <param name="caCert">Option `cacert`, or null.</param>
    /// <param name="credentialsId">Option `tls-creds`, or null.</param>
    /// <param name="host">Name or address of the server.</param>
    /// <param name="secrets">Credentials of this run.</param>
    public TlsTrust(bool verify, string? caCert, string? credentialsId, string host, SecretStore secrets)
    {
        _verify = verify;
        if (credentialsId is not null)
        {
            if (secrets.GetTls(credentialsId) is not TlsX509Credentials credentials)
            {
                throw BlockException.Unsupported("HTTPS and FTPS need certificates: tls-creds-x509, not a pre-shared key");
            }

            _verify &= credentials.VerifyPeer;
            Options = TlsClient.Create(credentials, host, secrets).MakeOptions();
        }
        else
        {
            Options = new SslClientAuthenticationOptions
            {
                TargetHost = host,
                CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
            };
        }

        if (caCert is not null)
        {
            Options.CertificateChainPolicy = new X509ChainPolicy
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck,
            };
            Options.CertificateChainPolicy.CustomTrustStore.AddRange(ReadAuthorities(caCert));
        }

        _host = host;
        Options.RemoteCertificateValidationCallback = (_, certificate, chain, errors) => Validate(certificate, chain, errors);
    }

    /// <summary>For connections to the host.</summary>
    public SslClientAuthenticationOptions Options { get; }

    /// <summary>
    /// For connections that are to resume each other's sessions and no others, as FTP servers insist on for the data
    /// connections of a control connection. SslStream remembers sessions by the name of the host, and not at all for an
    /// address: so these have made-up names, and the certificate is compared with the host here.
    /// </summary>
    /// <param name="lane">Number of the control connection; 0 keeps a host's real name.</param>
    public SslClientAuthenticationOptions MakeOptions(int lane)
    {
        bool isReal = lane == 0 && !IPAddress.TryParse(_host, out _);
        return new SslClientAuthenticationOptions
        {
            TargetHost = isReal ? _host : $"lane{lane}.{_host.Replace(':', '-').Replace('.', '-')}.invalid",
            EnabledSslProtocols = Options.EnabledSslProtocols,
            ClientCertificates = Options.ClientCertificates,
            CertificateChainPolicy = Options.CertificateChainPolicy,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
            RemoteCertificateValidationCallback = (_, certificate, chain, errors) =>
            {
                if (!isReal && certificate is X509Certificate2 full)
                {
                    errors &= ~SslPolicyErrors.RemoteCertificateNameMismatch;
                    errors |= full.MatchesHostname(_host) ? SslPolicyErrors.None : SslPolicyErrors.RemoteCertificateNameMismatch;
                }

                return Validate(certificate, chain, errors);
            },
        };
    }

    /// <summary>Why TLS could not be set up.</summary>
    public BlockException Explain(AuthenticationException e, string peer) => _problem is not { } problem
        ? new BlockException(BlockErrorKind.IoError, $"{peer}: TLS could not be set up", e)
        : new BlockException(BlockErrorKind.PermissionDenied, $"{peer}: the certificate is not trusted: {problem}", e)
        {
            Hint = "Name the authority with cacert=FILE. sslverify=off takes any certificate, also that of an attacker.",
        };

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

    private bool Validate(X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        if (errors == SslPolicyErrors.None || !_verify)
        {
            return true;
        }

        X509ChainStatusFlags status = chain?.ChainStatus.Aggregate(
            X509ChainStatusFlags.NoError, (all, one) => all | one.Status) ?? X509ChainStatusFlags.NoError;
        _problem = certificate is null ? "there is none"
            : errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch) ? "it is for another host"
            : status.HasFlag(X509ChainStatusFlags.NotTimeValid) ? "it has expired, or is not valid yet"
            : "it is not signed by a known authority";
        return false;
    }
}
