using ImageMount.Core.Block;
using ImageMount.Core.Options;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Nbd;

/// <summary>
/// The ways to write an NBD server in one word: URIs (doc/uri.md of the NBD project) and QEMU's older forms
/// <c>nbd:host:port[:exportname=NAME]</c> and <c>nbd:unix:PATH[:exportname=NAME]</c>.
/// </summary>
internal static class NbdUri
{
    private const string UriForm = "nbd://host[:port]/[export], nbd+unix:///[export]?socket=path";
    private const string OldForm = "nbd:host:port[:exportname=name] or nbd:unix:path[:exportname=name]";
    private const string ExportName = ":exportname=";
    private static readonly string[] Schemes = ["nbd", "nbd+tcp", "nbd+unix", "nbds", "nbds+tcp", "nbds+unix"];

    /// <summary>Turns it into options.</summary>
    public static OptionMap Parse(string text)
    {
        var map = new OptionMap();
        if (!text.Contains("://", StringComparison.Ordinal))
        {
            ParseOld(text, map);
            return map;
        }

        RemoteUri uri = RemoteUri.Parse(text, UriForm);
        if (!Schemes.Contains(uri.Scheme))
        {
            throw RemoteUri.Wrong($"there is no '{uri.Scheme}:'", UriForm);
        }

        bool isUnix = uri.Scheme.EndsWith("+unix", StringComparison.Ordinal);
        bool isTls = uri.Scheme.StartsWith("nbds", StringComparison.Ordinal);
        if (uri.Password is not null || (uri.User is not null && !isTls))
        {
            throw RemoteUri.Wrong("NBD knows no passwords, and users only with TLS and pre-shared keys", UriForm);
        }

        if (isUnix && (uri.Host.Length > 0 || uri.Port is not null))
        {
            throw RemoteUri.Wrong("a unix socket has no host", UriForm);
        }

        if (!isUnix)
        {
            map.Set("host", uri.Host.Length == 0 ? "localhost" : uri.Host);
            map.Set("port", OptionText(uri.Port ?? NbdLayout.DefaultPort));
        }

        if (isTls)
        {
            map.Set("tls", "on");
        }

        SetIfGiven(map, "tls-username", uri.User);
        AddQuery(map, uri, isUnix, isTls);
        string export = uri.Path.StartsWith('/') ? uri.Path[1..] : uri.Path;
        SetIfGiven(map, "export", export.Length == 0 ? null : export);
        return map;
    }

    private static void AddQuery(OptionMap map, RemoteUri uri, bool isUnix, bool isTls)
    {
        foreach ((string key, string value) in uri.Query)
        {
            string? option = key switch
            {
                "socket" when isUnix => "path",
                "tls-certificates" or "tls-psk-file" or "tls-hostname" when isTls => key,
                _ => null,
            };
            if (option is null || value.Length == 0 || map.Contains(option))
            {
                throw RemoteUri.Wrong($"the parameter '{key}' does not belong there, is empty or given twice", UriForm);
            }

            map.Set(option, value);
        }

        if (isUnix && !map.Contains("path"))
        {
            throw RemoteUri.Wrong("it does not name the socket", UriForm);
        }
    }

    private static void ParseOld(string text, OptionMap map)
    {
        string rest = text["nbd:".Length..];
        int at = rest.IndexOf(ExportName, StringComparison.Ordinal);
        string address = at < 0 ? rest : rest[..at];
        SetIfGiven(map, "export", at < 0 ? null : rest[(at + ExportName.Length)..]);
        const string UnixPrefix = "unix:";
        if (address.StartsWith(UnixPrefix, StringComparison.Ordinal))
        {
            map.Set("path", address.Length > UnixPrefix.Length
                ? address[UnixPrefix.Length..] : throw RemoteUri.Wrong("it does not name the socket", OldForm));
            return;
        }

        (string host, int? port) = RemoteUri.HostAndPort(address, OldForm);
        map.Set("host", host.Length == 0 ? "localhost" : host);
        map.Set("port", OptionText(port ?? throw RemoteUri.Wrong("it has no port", OldForm)));
    }

    /// <summary>The address that options name.</summary>
    public static RemoteAddress AddressOf(NbdOptions options)
    {
        if (options.Path is not null)
        {
            return options.Path.Length > 0 && options.Host is null && options.Port is null && options.ServerType is not NbdServerType.Inet
                ? RemoteAddress.Unix(options.Path)
                : throw new BlockException(
                    BlockErrorKind.InvalidArgument, "'path' names a unix socket, 'host' and 'port' are for TCP; one of them is needed, not both");
        }

        if (options.ServerType == NbdServerType.Unix)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "a server of type 'unix' needs 'path'");
        }

        return options.Host is { Length: > 0 } host
            ? RemoteAddress.Tcp(host, options.Port ?? NbdLayout.DefaultPort)
            : throw new BlockException(BlockErrorKind.InvalidArgument, "driver 'nbd' does not know where the server is")
            {
                Expected = "'host' and 'port', or 'path'",
            };
    }

    /// <summary>The URI that means the same, without users.</summary>
    public static string Format(NbdOptions options)
    {
        RemoteAddress address = AddressOf(options);
        string scheme = UsesTls(options) ? "nbds" : "nbd";
        string export = RemoteUri.Encode(options.Export);
        return address.SocketPath is { } path
            ? $"{scheme}+unix:///{export}?socket={RemoteUri.Encode(path)}"
            : $"{scheme}://{address.Shown}/{export}";
    }

    /// <summary>True when any option asks for TLS.</summary>
    public static bool UsesTls(NbdOptions options) =>
        options.Tls || options.TlsCreds is not null || options.TlsCertificates is not null || options.TlsPskFile is not null;

    private static string OptionText(int number) => number.ToString(System.Globalization.CultureInfo.InvariantCulture);

    private static void SetIfGiven(OptionMap map, string key, string? value)
    {
        if (value is not null)
        {
            map.Set(key, value);
        }
    }
}
