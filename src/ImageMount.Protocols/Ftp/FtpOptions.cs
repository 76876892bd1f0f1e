using ImageMount.Core.Options;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ftp;

/// <summary>How an FTP connection is made secure.</summary>
public enum FtpTlsMode
{
    /// <summary>Not at all.</summary>
    Off,

    /// <summary>After the greeting, by AUTH TLS (RFC 4217).</summary>
    Explicit,

    /// <summary>From the first byte on, on a port of its own.</summary>
    Implicit,
}

/// <summary>Options of the drivers <c>ftp</c> and <c>ftps</c>; where QEMU has one, the name is QEMU's.</summary>
public sealed record FtpOptions : RemoteFileOptions
{
    /// <summary>User name.</summary>
    [Option("username", "User name (default: anonymous)")]
    public string? Username { get; init; }

    /// <summary>Id of the secret with the password.</summary>
    [Option("password-secret", "Id of the secret with the password")]
    public string? PasswordSecret { get; init; }

    /// <summary>How the connection is made secure.</summary>
    [Option("tls", "How connections are made secure (default: off for ftp, implicit for ftps)")]
    public FtpTlsMode? Tls { get; init; }

    /// <summary>Most connections.</summary>
    [Option("connections", "Most control connections, that is requests at once", Min = 1, Max = 32)]
    public int Connections { get; init; } = 4;
}
