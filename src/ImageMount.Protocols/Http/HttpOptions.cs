using ImageMount.Core.Options;

namespace ImageMount.Protocols.Http;

/// <summary>Options of the drivers <c>http</c> and <c>https</c>; where QEMU has one, the name is QEMU's.</summary>
public sealed record HttpOptions
{
    /// <summary>Where the file is.</summary>
    [Option("url", "URL of the file", Required = true, Aliases = ["filename"], IsSecret = true)]
    public string Url { get; init; } = "";

    /// <summary>User name for the server.</summary>
    [Option("username", "User name for the server")]
    public string? Username { get; init; }

    /// <summary>Id of the secret with the password.</summary>
    [Option("password-secret", "Id of the secret with the password for the server")]
    public string? PasswordSecret { get; init; }

    /// <summary>User name for the proxy.</summary>
    [Option("proxy-username", "User name for the proxy")]
    public string? ProxyUsername { get; init; }

    /// <summary>Id of the secret with the password for the proxy.</summary>
    [Option("proxy-password-secret", "Id of the secret with the password for the proxy")]
    public string? ProxyPasswordSecret { get; init; }

    /// <summary>File with user names and passwords.</summary>
    [Option("netrc", "File with user names and passwords; empty for none (default: $NETRC, or ~/.netrc)")]
    public string? Netrc { get; init; }

    /// <summary>Cookies.</summary>
    [Option("cookie", "Cookies to send, as in 'a=1; b=2'", IsSecret = true)]
    public string? Cookie { get; init; }

    /// <summary>Id of the secret with cookies.</summary>
    [Option("cookie-secret", "Id of the secret with the cookies to send")]
    public string? CookieSecret { get; init; }

    /// <summary>Check the server's certificate.</summary>
    [Option("sslverify", "Check the certificate of the server")]
    public bool SslVerify { get; init; } = true;

    /// <summary>Authorities to trust instead of the system's.</summary>
    [Option("cacert", "File with the certificates of the authorities to trust, in PEM, instead of the system's")]
    public string? CaCert { get; init; }

    /// <summary>Id of credentials for TLS.</summary>
    [Option("tls-creds", "Id of the TLS credentials: authorities to trust, and a certificate of our own")]
    public string? TlsCreds { get; init; }

    /// <summary>Bytes read ahead of a sequential reader.</summary>
    [Option("readahead", "Bytes that are fetched ahead of a sequential reader; 0 for none", IsSize = true, Min = 0,
        Max = 1 << 30)]
    public long ReadAhead { get; init; } = 8 << 20;

    /// <summary>Most connections.</summary>
    [Option("connections", "Most connections, that is requests at once", Min = 1, Max = 64)]
    public int Connections { get; init; } = 8;

    /// <summary>Seconds without any progress after which a request counts as lost.</summary>
    [Option("timeout", "Seconds without progress after which a request counts as lost; 0 for never", Min = 0, Max = 86400)]
    public int Timeout { get; init; } = 30;

    /// <summary>Seconds for which requests wait while the server is away.</summary>
    [Option("reconnect-delay", "Seconds for which requests wait while the server is away; 0: they fail at once", Min = 0,
        Max = 86400)]
    public int ReconnectDelay { get; init; } = 30;

    /// <summary>Read all of it to a temporary file first.</summary>
    [Option("spool", "Read the whole file to a temporary one first (default: off, or on with --spool where needed)")]
    public bool? Spool { get; init; }
}
