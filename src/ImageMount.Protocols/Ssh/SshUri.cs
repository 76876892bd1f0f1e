using System.Globalization;
using System.Text.RegularExpressions;
using ImageMount.Core.Block;
using ImageMount.Core.Options;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ssh;

/// <summary>
/// <c>ssh://[user@]host[:port]/path[?host_key_check=…]</c>, and the check of the parts that become arguments of ssh.
/// </summary>
internal static partial class SshUri
{
    private const string Form = "ssh://[user@]host[:port]/path[?host_key_check=yes|no|md5:HEX|sha1:HEX|sha256:HEX]";

    /// <summary>Turns it into options.</summary>
    public static OptionMap Parse(string text)
    {
        RemoteUri uri = RemoteUri.Parse(text, Form);
        if (uri.Password is not null)
        {
            throw RemoteUri.Wrong("a password does not belong into it; give 'password-secret'", Form);
        }

        if (uri.Host.Length == 0 || uri.Path.Length < 2)
        {
            throw RemoteUri.Wrong(uri.Host.Length == 0 ? "it has no host" : "it has no path", Form);
        }

        var map = new OptionMap();
        map.Set("host", uri.Host);
        map.Set("path", uri.Path);
        if (uri.Port is { } port)
        {
            map.Set("port", port.ToString(CultureInfo.InvariantCulture));
        }

        if (uri.User is { Length: > 0 } user)
        {
            map.Set("user", user);
        }

        foreach ((string key, string value) in uri.Query)
        {
            if (key != "host_key_check" || value.Length == 0 || map.Contains(key))
            {
                throw RemoteUri.Wrong($"the parameter '{key}' does not belong there, is empty or given twice", Form);
            }

            map.Set(key, value);
        }

        return map;
    }

    /// <summary>The URI of a file, without how it is reached.</summary>
    public static string Format(SshOptions options) =>
        $"ssh://{(options.User is { } user ? Uri.EscapeDataString(user) + "@" : "")}{Server(options)}"
        + RemoteUri.Encode(options.Path ?? "");

    /// <summary>"host" or "host:port".</summary>
    public static string Server(SshOptions options) => RemoteUri.Bracket(options.Host ?? "")
        + (options.Port is { } port ? $":{port.ToString(CultureInfo.InvariantCulture)}" : "");

    /// <summary>
    /// Host and user may come from an image, and ssh hands them on to a shell where its configuration says so (ProxyCommand,
    /// Match exec): nothing passes that is an option to ssh or a word to a shell.
    /// </summary>
    public static void Check(SshOptions options)
    {
        if (options.Host is not { Length: > 0 and <= 255 } host || !HostPattern().IsMatch(host))
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "driver 'ssh' does not know such a host")
            {
                Expected = "'host': letters, digits, '.', '-', '_', ':' or '%', not beginning with '-'",
            };
        }

        if (options.User is { } user && (user.Length is 0 or > 255 || !UserPattern().IsMatch(user)))
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "there cannot be such a user")
            {
                Expected = "'user' without blanks, quotes and what means something to a shell, not beginning with '-'",
            };
        }

        if (options.Path is not { Length: > 1 and <= 4096 } path || path[0] != '/' || path.Contains('\0'))
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "driver 'ssh' does not know which file")
            {
                Expected = "'path', beginning with '/'",
            };
        }
    }

    [GeneratedRegex(@"\A[A-Za-z0-9_.:][A-Za-z0-9_.:%-]*\z")]
    private static partial Regex HostPattern();

    [GeneratedRegex(@"\A[^-\s'""`$\\;&<>|(){}!*?\[\]#~\p{C}][^\s'""`$\\;&<>|(){}!*?\[\]#~\p{C}]*\z")]
    private static partial Regex UserPattern();
}
