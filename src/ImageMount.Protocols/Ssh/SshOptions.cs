using ImageMount.Core.Options;

namespace ImageMount.Protocols.Ssh;

/// <summary>How the server's host key is checked.</summary>
public enum SshHostKeyMode
{
    /// <summary>Not at all.</summary>
    None,

    /// <summary>Against a digest that is given.</summary>
    Hash,

    /// <summary>Against the files of known hosts.</summary>
    [OptionValue("known_hosts")]
    KnownHosts,
}

/// <summary>Digests of a host key.</summary>
public enum SshHashType
{
    /// <summary>MD5, as old lists have it.</summary>
    Md5,

    /// <summary>SHA-1.</summary>
    Sha1,

    /// <summary>SHA-256.</summary>
    Sha256,
}

/// <summary>Options of the driver <c>ssh</c>; the names are QEMU's, but for those that the page says are ours.</summary>
public sealed record SshOptions
{
    /// <summary>Host.</summary>
    [Option("host", "Name or address of the server, or a name in the configuration of ssh", Aliases = ["server.host"])]
    public string? Host { get; init; }

    /// <summary>TCP port.</summary>
    [Option("port", "TCP port of the server", Aliases = ["server.port"], Min = 1, Max = 65535)]
    public int? Port { get; init; }

    /// <summary>User.</summary>
    [Option("user", "User on the server")]
    public string? User { get; init; }

    /// <summary>Path.</summary>
    [Option("path", "Absolute path of the file on the server")]
    public string? Path { get; init; }

    /// <summary>Check of the host key, in one word.</summary>
    [Option("host_key_check", "Check of the host key: `yes`, `no`, `md5:HEX`, `sha1:HEX` or `sha256:HEX`")]
    public string? HostKeyCheck { get; init; }

    /// <summary>Check of the host key.</summary>
    [Option("host-key-check.mode", "Check of the host key, in QEMU's longer form")]
    public SshHostKeyMode? HostKeyMode { get; init; }

    /// <summary>Kind of digest.</summary>
    [Option("host-key-check.type", "Kind of the digest, with mode `hash`")]
    public SshHashType? HostKeyType { get; init; }

    /// <summary>Digest.</summary>
    [Option("host-key-check.hash", "The digest in hexadecimal, with mode `hash`")]
    public string? HostKeyHash { get; init; }

    /// <summary>Secret that is the password.</summary>
    [Option("password-secret", "Id of the `--object secret` with the user's password")]
    public string? PasswordSecret { get; init; }

    /// <summary>Key file.</summary>
    [Option("identity", "File with the private key; else what ssh and its agent have")]
    public string? Identity { get; init; }

    /// <summary>Secret that is the passphrase of the key.</summary>
    [Option("identity-secret", "Id of the `--object secret` with the passphrase of `identity`")]
    public string? IdentitySecret { get; init; }

    /// <summary>Configuration of ssh.</summary>
    [Option("config", "Configuration file of ssh instead of the user's and the system's; `none` for no file")]
    public string? Config { get; init; }

    /// <summary>Most connections.</summary>
    [Option("sessions", "Most connections at once; more than one are for reading", Min = 1, Max = 8)]
    public int Sessions { get; init; } = 2;

    /// <summary>Seconds that requests wait for a new connection.</summary>
    [Option("reconnect-delay", "Seconds for which requests wait while a lost connection is made again; 0: they fail at once",
        Min = 0, Max = 86400)]
    public int ReconnectDelay { get; init; } = 30;

    /// <summary>Seconds until a stalled connection is given up.</summary>
    [Option("timeout", "Seconds without any progress after which a connection is given up; 0: never",
        Min = 0, Max = 86400)]
    public int Timeout { get; init; } = 30;
}
