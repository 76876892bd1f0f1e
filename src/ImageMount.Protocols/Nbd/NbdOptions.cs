using ImageMount.Core.Options;

namespace ImageMount.Protocols.Nbd;

/// <summary>Kinds of addresses.</summary>
public enum NbdServerType
{
    /// <summary>TCP.</summary>
    Inet,

    /// <summary>A unix socket.</summary>
    Unix,
}

/// <summary>Options of the driver <c>nbd</c>; the names are QEMU's, but for those that the page says are ours.</summary>
public sealed record NbdOptions
{
    /// <summary>Host.</summary>
    [Option("host", "Name or address of the server", Aliases = ["server.host"])]
    public string? Host { get; init; }

    /// <summary>TCP port.</summary>
    [Option("port", "TCP port of the server", Aliases = ["server.port"], Min = 1, Max = 65535)]
    public int? Port { get; init; }

    /// <summary>Unix socket.</summary>
    [Option("path", "Path of the server's unix socket", Aliases = ["server.path"])]
    public string? Path { get; init; }

    /// <summary>Kind of address.</summary>
    [Option("server.type", "Kind of address; it follows from the other options")]
    public NbdServerType? ServerType { get; init; }

    /// <summary>Name of the export.</summary>
    [Option("export", "Name of the export; empty for the server's default one")]
    public string Export { get; init; } = "";

    /// <summary>Credentials.</summary>
    [Option("tls-creds", "Id of the `--object tls-creds-x509` or `tls-creds-psk` for TLS")]
    public string? TlsCreds { get; init; }

    /// <summary>Expected name.</summary>
    [Option("tls-hostname", "Name that the server's certificate must have, where it is not `host`")]
    public string? TlsHostname { get; init; }

    /// <summary>TLS with the system's authorities.</summary>
    [Option("tls", "Talk TLS; without `tls-creds`, by the system's authorities (what `nbds:` means)")]
    public bool Tls { get; init; }

    /// <summary>Folder with certificates.</summary>
    [Option("tls-certificates", "Folder with `ca-cert.pem`, and `client-cert.pem` and `client-key.pem` where needed")]
    public string? TlsCertificates { get; init; }

    /// <summary>File with pre-shared keys.</summary>
    [Option("tls-psk-file", "File with pre-shared keys, lines of `user:hex`")]
    public string? TlsPskFile { get; init; }

    /// <summary>User of the pre-shared key.</summary>
    [Option("tls-username", "User whose key is taken from `tls-psk-file`")]
    public string? TlsUsername { get; init; }

    /// <summary>Seconds that requests wait for a new connection.</summary>
    [Option("reconnect-delay", "Seconds for which requests wait while a lost connection is made again; 0: they fail at once",
        Min = 0, Max = 86400)]
    public int ReconnectDelay { get; init; } = 30;

    /// <summary>Seconds for the first connection.</summary>
    [Option("open-timeout", "Seconds for which the first connection is tried again; 0: one try", Min = 0, Max = 86400)]
    public int OpenTimeout { get; init; }

    /// <summary>Seconds until a stalled connection is given up.</summary>
    [Option("timeout", "Seconds without any progress after which a connection is given up; 0: never",
        Min = 0, Max = 86400)]
    public int Timeout { get; init; } = 30;

    /// <summary>Most connections.</summary>
    [Option("connections", "Most connections at once, where the server allows several", Min = 1, Max = 16)]
    public int Connections { get; init; } = 4;

    /// <summary>Another context for block status.</summary>
    [Option("x-dirty-bitmap", "Context to map instead of `base:allocation`, such as `qemu:dirty-bitmap:NAME`")]
    public string? DirtyBitmap { get; init; }
}
