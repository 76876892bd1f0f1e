using ImageMount.Core.Options;

namespace ImageMount.Protocols.Remote;

/// <summary>Options of protocols that read a file by its URL; where QEMU has one, the name is QEMU's.</summary>
public abstract record RemoteFileOptions
{
    /// <summary>Where the file is.</summary>
    [Option("url", "URL of the file", Required = true, Aliases = ["filename"], IsSecret = true)]
    public string Url { get; init; } = "";

    /// <summary>File with user names and passwords.</summary>
    [Option("netrc", "File with user names and passwords; empty for none (default: $NETRC, or ~/.netrc)")]
    public string? Netrc { get; init; }

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

    /// <summary>Seconds without any progress after which a request counts as lost.</summary>
    [Option("timeout", "Seconds without progress after which a request counts as lost; 0 for never", Min = 0, Max = 86400)]
    public int Timeout { get; init; } = 30;

    /// <summary>Seconds for which requests wait while the server is away.</summary>
    [Option("reconnect-delay", "Seconds for which requests wait while the server is away; 0: they fail at once", Min = 0,
        Max = 86400)]
    public int ReconnectDelay { get; init; } = 30;
}
