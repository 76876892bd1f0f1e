using ImageMount.Core.Options;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Http;

/// <summary>Options of the drivers <c>http</c> and <c>https</c>; where QEMU has one, the name is QEMU's.</summary>
public sealed record HttpOptions : RemoteFileOptions
{
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

    /// <summary>Cookies.</summary>
    [Option("cookie", "Cookies to send, as in 'a=1; b=2'", IsSecret = true)]
    public string? Cookie { get; init; }

    /// <summary>Id of the secret with cookies.</summary>
    [Option("cookie-secret", "Id of the secret with the cookies to send")]
    public string? CookieSecret { get; init; }

    /// <summary>Most connections.</summary>
    [Option("connections", "Most connections, that is requests at once", Min = 1, Max = 64)]
    public int Connections { get; init; } = 8;

    /// <summary>Read all of it to a temporary file first.</summary>
    [Option("spool", "Read the whole file to a temporary one first (default: off, or on with --spool where needed)")]
    public bool? Spool { get; init; }
}
