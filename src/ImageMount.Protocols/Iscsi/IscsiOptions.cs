using ImageMount.Core.Options;

namespace ImageMount.Protocols.Iscsi;

/// <summary>What carries iSCSI.</summary>
public enum IscsiTransport
{
    /// <summary>TCP.</summary>
    Tcp,

    /// <summary>RDMA; not supported.</summary>
    Iser,
}

/// <summary>Whether headers have checksums.</summary>
public enum IscsiHeaderDigest
{
    /// <summary>No.</summary>
    None,

    /// <summary>Rather not.</summary>
    [OptionValue("none-crc32c")]
    NoneCrc32C,

    /// <summary>If the target can.</summary>
    [OptionValue("crc32c-none")]
    Crc32CNone,

    /// <summary>Yes.</summary>
    [OptionValue("crc32c")]
    Crc32C,
}

/// <summary>Options of the driver <c>iscsi</c>; the names are QEMU's, but for those that the page says are ours.</summary>
public sealed record IscsiOptions
{
    /// <summary>What carries it.</summary>
    [Option("transport", "What carries iSCSI; only `tcp` is supported")]
    public IscsiTransport Transport { get; init; }

    /// <summary>Server.</summary>
    [Option("portal", "Name or address of the server, and `:port` where it is not 3260")]
    public string? Portal { get; init; }

    /// <summary>Target.</summary>
    [Option("target", "Name of the target (`iqn.…`)")]
    public string? Target { get; init; }

    /// <summary>Logical unit.</summary>
    [Option("lun", "Number of the logical unit", Min = 0, Max = 16383)]
    public int Lun { get; init; }

    /// <summary>Our name for CHAP.</summary>
    [Option("user", "User name for CHAP")]
    public string? User { get; init; }

    /// <summary>Our password.</summary>
    [Option("password", "Password for CHAP; `password-secret` is safer", IsSecret = true)]
    public string? Password { get; init; }

    /// <summary>Secret that is our password.</summary>
    [Option("password-secret", "Id of the `--object secret` with the password for CHAP")]
    public string? PasswordSecret { get; init; }

    /// <summary>The target's name.</summary>
    [Option("target-user", "User name that the target must prove (mutual CHAP)")]
    public string? TargetUser { get; init; }

    /// <summary>The target's password.</summary>
    [Option("target-password", "Password that the target must know; `target-password-secret` is safer", IsSecret = true)]
    public string? TargetPassword { get; init; }

    /// <summary>Secret that is the target's password.</summary>
    [Option("target-password-secret", "Id of the `--object secret` with the password that the target must know")]
    public string? TargetPasswordSecret { get; init; }

    /// <summary>Who we are.</summary>
    [Option("initiator-name", "Name of this initiator, which the target's access list may ask for")]
    public string? InitiatorName { get; init; }

    /// <summary>Checksums of headers.</summary>
    [Option("header-digest", "Checksums of headers")]
    public IscsiHeaderDigest? HeaderDigest { get; init; }

    /// <summary>Seconds until a stalled session is given up.</summary>
    [Option("timeout", "Seconds without any answer after which a session is given up; 0: never", Min = 0, Max = 86400)]
    public int? Timeout { get; init; }

    /// <summary>Seconds that requests wait for a new session.</summary>
    [Option("reconnect-delay", "Seconds for which requests wait while a lost session is made again; 0: they fail at once",
        Min = 0, Max = 86400)]
    public int ReconnectDelay { get; init; } = 30;

    /// <summary>Seconds for the first session.</summary>
    [Option("open-timeout", "Seconds for which the first session is tried again; 0: one try", Min = 0, Max = 86400)]
    public int OpenTimeout { get; init; }

    /// <summary>QEMU's configuration file.</summary>
    [Option("config", "File with `[iscsi]` and `[iscsi \"target\"]` sections, as QEMU has them")]
    public string? Config { get; init; }
}
