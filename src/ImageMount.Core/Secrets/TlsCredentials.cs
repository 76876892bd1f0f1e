namespace ImageMount.Core.Secrets;

/// <summary>
/// How a client proves who it is to a TLS server, and how it checks the server, as `--object tls-creds-…` says it. Only
/// names of files and of secrets: keys are read when a connection is made.
/// </summary>
public abstract record TlsCredentials
{
    /// <summary>Name by which options refer to it.</summary>
    public required string Id { get; init; }

    /// <summary>Folder with the files, absolute; null for the system's authorities and no certificate.</summary>
    public string? Directory { get; init; }
}

/// <summary>
/// Certificates: "ca-cert.pem" of the authority, and, where the server asks for them, "client-cert.pem" and
/// "client-key.pem". Used by every protocol over TLS.
/// </summary>
public sealed record TlsX509Credentials : TlsCredentials
{
    /// <summary>False: any certificate of the server will do. The connection is then not safe from others.</summary>
    public bool VerifyPeer { get; init; } = true;

    /// <summary>Id of the secret that the client's key is encrypted with; null for a key that is not.</summary>
    public string? PasswordId { get; init; }
}

/// <summary>A key that both sides know, in "keys.psk": lines "user:hexadecimal key", as psktool(1) makes them.</summary>
public sealed record TlsPskCredentials : TlsCredentials
{
    /// <summary>Which line.</summary>
    public string UserName { get; init; } = "qemu";

    /// <summary>The file itself, where it is not "keys.psk" of the folder.</summary>
    public string? KeyFile { get; init; }
}
