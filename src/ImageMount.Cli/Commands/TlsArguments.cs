using ImageMount.Core.Options;
using ImageMount.Core.Secrets;

namespace ImageMount.Cli.Commands;

/// <summary>Which side of a TLS connection credentials are for.</summary>
public enum TlsEndpoint
{
    /// <summary>The only side that there is here.</summary>
    Client,
}

/// <summary>What `--object tls-creds-x509,…` takes, as QEMU has it.</summary>
public sealed record TlsX509Object
{
    /// <summary>Name by which options refer to it.</summary>
    [Option("id", "Name by which options refer to it.", Required = true)]
    public string Id { get; init; } = "";

    /// <summary>Side.</summary>
    [Option("endpoint", "Which side it is for.")]
    public TlsEndpoint Endpoint { get; init; }

    /// <summary>Folder.</summary>
    [Option("dir", "Folder with ca-cert.pem, and client-cert.pem and client-key.pem where the server asks for them.")]
    public string? Dir { get; init; }

    /// <summary>Whether the server's certificate is checked.</summary>
    [Option("verify-peer", "Check the server's certificate. Off: anybody on the way can pretend to be the server.")]
    public bool VerifyPeer { get; init; } = true;

    /// <summary>Secret of the key.</summary>
    [Option("passwordid", "Id of the secret that client-key.pem is encrypted with.")]
    public string? PasswordId { get; init; }
}

/// <summary>What `--object tls-creds-psk,…` takes, as QEMU has it.</summary>
public sealed record TlsPskObject
{
    /// <summary>Name by which options refer to it.</summary>
    [Option("id", "Name by which options refer to it.", Required = true)]
    public string Id { get; init; } = "";

    /// <summary>Side.</summary>
    [Option("endpoint", "Which side it is for.")]
    public TlsEndpoint Endpoint { get; init; }

    /// <summary>Folder.</summary>
    [Option("dir", "Folder with keys.psk, lines of user:hexadecimal key.", Required = true)]
    public string Dir { get; init; } = "";

    /// <summary>User.</summary>
    [Option("username", "Whose key.")]
    public string UserName { get; init; } = "qemu";
}

/// <summary>Reads the objects for TLS of a command line.</summary>
internal static class TlsArguments
{
    private const string X509 = "tls-creds-x509,";
    private const string Psk = "tls-creds-psk,";

    /// <summary>The credentials that an `--object` describes; null when it is for something else.</summary>
    public static TlsCredentials? TryRead(string text)
    {
        if (text.StartsWith(X509, StringComparison.Ordinal))
        {
            var o = OptionBinder.Bind<TlsX509Object>(OptionSyntax.ParsePairs(text[X509.Length..]), "--object tls-creds-x509");
            return new TlsX509Credentials
            {
                Id = o.Id,
                Directory = o.Dir is null ? null : Path.GetFullPath(o.Dir),
                VerifyPeer = o.VerifyPeer,
                PasswordId = o.PasswordId,
            };
        }

        if (text.StartsWith(Psk, StringComparison.Ordinal))
        {
            var o = OptionBinder.Bind<TlsPskObject>(OptionSyntax.ParsePairs(text[Psk.Length..]), "--object tls-creds-psk");
            return new TlsPskCredentials
            {
                Id = o.Id,
                Directory = Path.GetFullPath(o.Dir),
                UserName = o.UserName,
            };
        }

        return null;
    }
}
