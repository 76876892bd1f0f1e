using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Secrets;

namespace ImageMount.Protocols.Remote;

/// <summary>A user name and password for one server. Never shown.</summary>
internal sealed record Login
{
    /// <summary>Name.</summary>
    public required string User { get; init; }

    /// <summary>Password; may be empty.</summary>
    public required string Password { get; init; }

    /// <summary>
    /// What is known: options, then the URI, then what another node of the graph used for the same server, then a netrc
    /// file. Null: nothing.
    /// </summary>
    /// <param name="uri">Of the disk.</param>
    /// <param name="user">Option `username`, or null.</param>
    /// <param name="passwordId">Option `password-secret`, or null.</param>
    /// <param name="netrc">Option `netrc`, or null.</param>
    /// <param name="origin">Scheme, host and port: "http://host:80".</param>
    /// <param name="secrets">Secrets of this run.</param>
    public static Login? Find(
        RemoteUri uri, string? user, string? passwordId, string? netrc, string origin, SecretStore secrets)
    {
        string? name = user ?? uri.User;
        string? password = passwordId is not null ? TextOf(secrets.Get(passwordId), passwordId) : uri.Password;
        if (name is null && passwordId is not null)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "there is a password, but no user name")
            {
                Hint = "Give it with the option username, or in the URL.",
            };
        }

        if (password is null && secrets.FindLogin(origin, name) is { } known)
        {
            return new Login { User = known.User, Password = TextOf(known.Password, origin) };
        }

        if (password is null && Netrc.Find(netrc, uri.Host, name) is { } entry)
        {
            (name, password) = entry;
        }

        if (name is null)
        {
            return null;
        }

        var login = new Login { User = NoLines(name, "user name"), Password = NoLines(password ?? "", "password") };
        if (password is not null)
        {
            // For images beside this one (a backing file), which name the server, but no password.
            secrets.RememberLogin(origin, login.User, new Secret(Encoding.UTF8.GetBytes(login.Password)));
        }

        return login;
    }

    /// <summary>A secret as the text of one line.</summary>
    public static string TextOf(Secret secret, string id)
    {
        try
        {
            return NoLines(new UTF8Encoding(false, true).GetString(secret.Span), $"secret '{id}'");
        }
        catch (ArgumentException e)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, $"the secret '{id}' is not UTF-8 text", e);
        }
    }

    /// <inheritdoc/>
    public override string ToString() => "(login)";

    private static string NoLines(string text, string what) => !text.AsSpan().ContainsAny('\r', '\n', '\0') ? text
        : throw new BlockException(BlockErrorKind.InvalidArgument, $"the {what} has a line end or a NUL in it")
        {
            Hint = "Every byte of the file of a secret counts: end it without a line end (printf instead of echo).",
        };
}
