using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Options;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Iscsi;

/// <summary>
/// <c>iscsi://[user[%password]@]host[:port]/target/lun</c>, as libiscsi writes it: a percent sign in front of the password,
/// and no percent encoding before the '@'.
/// </summary>
internal static class IscsiUri
{
    /// <summary>TCP port, where none is given.</summary>
    public const int DefaultPort = 3260;

    private const string Form = "iscsi://[user[%password]@]host[:port]/target-iqn/lun";
    private const string Separator = "://";

    /// <summary>Turns it into options.</summary>
    public static OptionMap Parse(string text)
    {
        int start = text.IndexOf(Separator, StringComparison.Ordinal);
        if (start < 0)
        {
            throw RemoteUri.Wrong("it has no '://'", Form);
        }

        start += Separator.Length;
        int end = text.AsSpan(start).IndexOfAny('/', '?');
        string authority = end < 0 ? text[start..] : text.Substring(start, end);
        int at = authority.LastIndexOf('@');
        RemoteUri uri = RemoteUri.Parse(text[..start] + text[(start + at + 1)..], Form);
        var map = new OptionMap();
        if (uri.Scheme == "iser")
        {
            map.Set("transport", "iser");
        }

        if (at >= 0)
        {
            AddUser(map, authority[..at]);
        }

        string[] parts = uri.Path.Split('/');
        if (uri.Host.Length == 0 || parts.Length != 3 || parts[1].Length == 0)
        {
            throw RemoteUri.Wrong(uri.Host.Length == 0 ? "it has no host" : "it does not name a target and a unit", Form);
        }

        if (!int.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out int lun))
        {
            throw RemoteUri.Wrong("the logical unit is not a number", Form);
        }

        map.Set("portal", Portal(uri.Host, uri.Port));
        map.Set("target", parts[1]);
        map.Set("lun", lun.ToString(CultureInfo.InvariantCulture));
        foreach ((string key, string value) in uri.Query)
        {
            string? option = key switch
            {
                "target_user" => "target-user",
                "target_password" => "target-password",
                "header_digest" => "header-digest",
                _ => null,
            };
            if (option is null || value.Length == 0 || map.Contains(option))
            {
                throw RemoteUri.Wrong($"the parameter '{key}' does not belong there, is empty or given twice", Form);
            }

            map.Set(option, value);
        }

        return map;
    }

    /// <summary>The address that options name.</summary>
    public static RemoteAddress AddressOf(IscsiOptions options)
    {
        if (string.IsNullOrEmpty(options.Portal) || string.IsNullOrEmpty(options.Target))
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "driver 'iscsi' does not know which disk")
            {
                Expected = "'portal', 'target' and 'lun'",
            };
        }

        (string host, int? port) = RemoteUri.HostAndPort(options.Portal, "host[:port]");
        return host.Length > 0
            ? RemoteAddress.Tcp(host, port ?? DefaultPort)
            : throw new BlockException(BlockErrorKind.InvalidArgument, "'portal' has no host");
    }

    /// <summary>The URI of a unit, without users.</summary>
    public static string Format(IscsiOptions options) => string.Create(
        CultureInfo.InvariantCulture, $"iscsi://{AddressOf(options).Shown}/{options.Target}/{options.Lun}");

    private static string Portal(string host, int? port) =>
        RemoteUri.Bracket(host) + (port is { } number ? ":" + number.ToString(CultureInfo.InvariantCulture) : "");

    private static void AddUser(OptionMap map, string info)
    {
        int split = info.IndexOf('%');
        split = split < 0 ? info.IndexOf(':') : split;
        string user = split < 0 ? info : info[..split];
        if (user.Length == 0)
        {
            throw RemoteUri.Wrong("the user has no name", Form);
        }

        map.Set("user", user);
        if (split >= 0)
        {
            map.Set("password", info[(split + 1)..]);
        }
    }
}
