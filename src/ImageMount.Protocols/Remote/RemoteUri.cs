using System.Globalization;
using System.Text;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>
/// A URI taken apart (RFC 3986): <c>scheme://[user[:password]@][host][:port][/path][?query]</c>. Parts are percent-decoded
/// once; hosts of IPv6 lose their brackets. What is wrong with a URI is told without showing it, because a password may
/// stand anywhere in one that cannot be parsed.
/// </summary>
internal sealed record RemoteUri
{
    private const int MaxLength = 4096;

    private RemoteUri()
    {
    }

    /// <summary>In lower case ("nbd+unix").</summary>
    public required string Scheme { get; init; }

    /// <summary>What stands before '@', as written; null when there is none. May hold a password.</summary>
    public string? RawUserInfo { get; init; }

    /// <summary>User name, or null.</summary>
    public string? User { get; init; }

    /// <summary>Password, or null. Never to be shown.</summary>
    public string? Password { get; init; }

    /// <summary>Name or address without brackets; empty when there is none.</summary>
    public required string Host { get; init; }

    /// <summary>Port, or null.</summary>
    public int? Port { get; init; }

    /// <summary>Decoded path with its first slash; empty when there is none.</summary>
    public required string Path { get; init; }

    /// <summary>Path and query as written, for protocols that pass them on.</summary>
    public required string RawPathAndQuery { get; init; }

    /// <summary>Decoded query parameters, in order; a parameter without '=' has an empty value.</summary>
    public required IReadOnlyList<(string Key, string Value)> Query { get; init; }

    /// <summary>The URI without user, password and query: what may be shown.</summary>
    public string Shown => $"{Scheme}://{Bracket(Host)}{(Port is { } port ? $":{port}" : "")}{Encode(Path)}";

    /// <summary>Takes a URI apart.</summary>
    /// <param name="text">From the user or an image.</param>
    /// <param name="expected">What such a URI looks like, for messages: "nbd://host[:port]/[export]".</param>
    /// <exception cref="BlockException">InvalidArgument.</exception>
    public static RemoteUri Parse(string text, string expected)
    {
        int colon = text.IndexOf("://", StringComparison.Ordinal);
        if (colon <= 0 || text.Length > MaxLength)
        {
            throw Wrong(colon <= 0 ? "it has no '://'" : $"it is longer than {MaxLength} characters", expected);
        }

        string rest = text[(colon + 3)..];
        int hash = rest.IndexOf('#');
        rest = hash < 0 ? rest : rest[..hash];
        int end = rest.AsSpan().IndexOfAny('/', '?');
        string authority = end < 0 ? rest : rest[..end];
        string pathAndQuery = end < 0 ? "" : rest[end..];
        int question = pathAndQuery.IndexOf('?');
        int at = authority.LastIndexOf('@');
        string? info = at < 0 ? null : authority[..at];
        int split = info?.IndexOf(':') ?? -1;
        (string host, int? port) = HostAndPort(authority[(at + 1)..], expected);
        return new RemoteUri
        {
            Scheme = text[..colon].ToLowerInvariant(),
            RawUserInfo = info,
            User = info is null ? null : Decode(split < 0 ? info : info[..split], expected),
            Password = split < 0 ? null : Decode(info![(split + 1)..], expected),
            Host = Decode(host, expected),
            Port = port,
            Path = Decode(question < 0 ? pathAndQuery : pathAndQuery[..question], expected),
            RawPathAndQuery = pathAndQuery,
            Query = question < 0 ? [] : Parameters(pathAndQuery[(question + 1)..], expected),
        };
    }

    /// <summary>Splits "host", "host:port", "[::1]" and "[::1]:port".</summary>
    public static (string Host, int? Port) HostAndPort(string text, string expected)
    {
        int close = text.StartsWith('[') ? text.IndexOf(']') : -1;
        if (text.StartsWith('[') && close < 0)
        {
            throw Wrong("a '[' is not closed", expected);
        }

        string host = close < 0 ? text : text[1..close];
        string after = close < 0 ? "" : text[(close + 1)..];
        if (close < 0 && text.IndexOf(':') is >= 0 and var colon)
        {
            (host, after) = (text[..colon], text[colon..]);
        }

        if (after.Length == 0)
        {
            return (host, null);
        }

        return after[0] == ':' ? (host, after.Length == 1 ? null : ParsePort(after[1..], expected))
            : throw Wrong("something follows the ']'", expected);
    }

    /// <summary>A TCP port, 1 to 65535.</summary>
    public static int ParsePort(string text, string expected) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int port) && port is > 0 and < 65536
            ? port : throw Wrong("the port is not a number from 1 to 65535", expected);

    /// <summary>A host as URIs write it: IPv6 addresses in brackets.</summary>
    public static string Bracket(string host) => host.Contains(':') ? $"[{host}]" : host;

    /// <summary>A path as URIs write it; slashes stay.</summary>
    public static string Encode(string path) => string.Join('/', path.Split('/').Select(Uri.EscapeDataString));

    /// <summary>An InvalidArgument that does not show the URI.</summary>
    public static BlockException Wrong(string why, string expected) =>
        new(BlockErrorKind.InvalidArgument, $"the URI is wrong: {why}") { Expected = expected };

    private static List<(string Key, string Value)> Parameters(string query, string expected)
    {
        var list = new List<(string, string)>();
        foreach (string part in query.Split('&', ';'))
        {
            if (part.Length > 0)
            {
                int equals = part.IndexOf('=');
                list.Add((
                    Decode(equals < 0 ? part : part[..equals], expected),
                    equals < 0 ? "" : Decode(part[(equals + 1)..], expected)));
            }
        }

        return list;
    }

    private static string Decode(string text, string expected)
    {
        if (!text.Contains('%') && !text.Contains('\0'))
        {
            return text;
        }

        var bytes = new List<byte>(text.Length);
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        for (int i = 0; i < utf8.Length; i++)
        {
            if (utf8[i] != '%')
            {
                bytes.Add(utf8[i]);
                continue;
            }

            if (i + 2 >= utf8.Length || !char.IsAsciiHexDigit((char)utf8[i + 1]) || !char.IsAsciiHexDigit((char)utf8[i + 2]))
            {
                throw Wrong("a '%' is not followed by two hexadecimal digits", expected);
            }

            bytes.Add(Convert.ToByte($"{(char)utf8[i + 1]}{(char)utf8[i + 2]}", 16));
            i += 2;
        }

        string decoded = Encoding.UTF8.GetString([.. bytes]);
        return decoded.Contains('\0') || decoded.Contains('\uFFFD')
            ? throw Wrong("a part of it is not UTF-8 text", expected)
            : decoded;
    }
}
