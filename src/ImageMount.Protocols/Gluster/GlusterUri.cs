using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Options;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Gluster;

/// <summary>
/// <c>gluster[+tcp|+unix|+rdma]://[host[:port]]/volume/path[?socket=…][,debug=N][,logfile=…]</c>, and what options mean.
/// </summary>
internal static class GlusterUri
{
    /// <summary>Where glusterd listens.</summary>
    public const int DefaultPort = 24007;

    private const string Form =
        "gluster[+tcp|+unix|+rdma]://[host[:port]]/volume/path[?socket=PATH][,debug=N][,logfile=FILE]";
    private const string NoLog = "/dev/null";
    private const int MaxServers = 32;
    private const int MaxPath = 4095;

    /// <summary>Turns it into options.</summary>
    public static OptionMap Parse(string text)
    {
        var map = new OptionMap();
        RemoteUri uri = RemoteUri.Parse(CutSuffix(text, map), Form);
        string transport = uri.Scheme switch
        {
            "gluster" or "gluster+tcp" => "tcp",
            "gluster+unix" => "unix",
            "gluster+rdma" => "rdma",
            _ => throw RemoteUri.Wrong($"there is no '{uri.Scheme}:'", Form),
        };
        if (uri.RawUserInfo is not null)
        {
            throw RemoteUri.Wrong("gluster knows neither users nor passwords", Form);
        }

        bool isUnix = transport == "unix";
        if (isUnix && (uri.Host.Length > 0 || uri.Port is not null))
        {
            throw RemoteUri.Wrong("a unix socket has no host", Form);
        }

        string path = uri.Path.TrimStart('/');
        int slash = path.IndexOf('/');
        string file = slash < 0 ? "" : path[slash..].TrimStart('/');
        if (slash < 0 || file.Length == 0)
        {
            throw RemoteUri.Wrong("it does not name a volume and a file in it", Form);
        }

        map.Set("volume", path[..slash]);
        map.Set("path", file);
        map.SetPath("server.0.type", transport);
        if (!isUnix)
        {
            map.SetPath("server.0.host", uri.Host.Length == 0 ? "localhost" : uri.Host);
            map.SetPath("server.0.port", (uri.Port ?? DefaultPort).ToString(CultureInfo.InvariantCulture));
        }

        foreach ((string key, string value) in uri.Query)
        {
            string? option = key switch
            {
                "socket" when isUnix => "server.0.path",
                "debug" or "logfile" => key,
                _ => null,
            };
            if (option is null || value.Length == 0 || map.Find(option) is not null)
            {
                throw RemoteUri.Wrong($"the parameter '{key}' does not belong there, is empty or given twice", Form);
            }

            map.SetPath(option, value);
        }

        return isUnix && map.Find("server.0.path") is null
            ? throw RemoteUri.Wrong("it does not name the socket", Form)
            : map;
    }

    /// <summary>What options name. Everything in them is checked here; nothing is looked up yet.</summary>
    public static GfapiTarget TargetOf(GlusterOptions options)
    {
        if (options.Volume.Length is 0 or > 255 || options.Volume.Any(c => c is '/' or ' ' || char.IsControl(c)))
        {
            throw Wrong("there cannot be such a volume", "'volume' without slashes and blanks, up to 255 characters");
        }

        if (options.Path.Trim('/').Length == 0 || options.Path.Length > MaxPath)
        {
            throw Wrong("driver 'gluster' does not know which file", $"'path' with up to {MaxPath} characters");
        }

        string log = options.LogFile is null or "" ? NoLog
            : options.LogFile == "-" ? "-" : Path.GetFullPath(options.LogFile);
        return new GfapiTarget(options.Volume, ServersOf(options), log, options.Debug);
    }

    /// <summary>The URI of a file, by the first server.</summary>
    public static string Format(GlusterOptions options)
    {
        GfapiTarget target = TargetOf(options);
        GfapiServer first = target.Servers[0];
        string path = $"{Uri.EscapeDataString(target.Volume)}/{RemoteUri.Encode(options.Path.TrimStart('/'))}";
        return first.Transport switch
        {
            "unix" => $"gluster+unix:///{path}?socket={RemoteUri.Encode(first.Host)}",
            "rdma" => $"gluster+rdma://{Shown(first)}/{path}",
            _ => $"gluster://{Shown(first)}/{path}",
        };
    }

    /// <summary>What messages call the servers of a volume.</summary>
    public static string Peer(GfapiTarget target) => Shown(target.Servers[0])
        + (target.Servers.Count == 1 ? "" : $" (and {target.Servers.Count - 1} more)");

    private static string Shown(GfapiServer server) => server.Transport == "unix" ? server.Host
        : RemoteUri.Bracket(server.Host)
            + (server.Port == DefaultPort ? "" : $":{server.Port.ToString(CultureInfo.InvariantCulture)}");

    /// <summary>QEMU's options after the URI: ",debug=9,file.logfile=/x". Any other comma belongs to a name.</summary>
    private static string CutSuffix(string text, OptionMap map)
    {
        while (text.LastIndexOf(',') is var comma and >= 0)
        {
            string part = text[(comma + 1)..];
            part = part.StartsWith("file.", StringComparison.Ordinal) ? part["file.".Length..] : part;
            int equals = part.IndexOf('=');
            string key = equals < 0 ? part : part[..equals];
            if (key is not ("debug" or "logfile"))
            {
                break;
            }

            if (equals < 0 || equals == part.Length - 1 || map.Contains(key))
            {
                throw RemoteUri.Wrong($"'{key}' after the ',' is empty or given twice", Form);
            }

            map.Set(key, part[(equals + 1)..]);
            text = text[..comma];
        }

        return text;
    }

    private static List<GfapiServer> ServersOf(GlusterOptions options)
    {
        OptionMap groups = options.Servers ?? new OptionMap();
        var servers = new List<GfapiServer>();
        foreach (string key in groups.Keys)
        {
            // In any order, but without gaps, as lists are.
            if (!int.TryParse(key, NumberStyles.None, CultureInfo.InvariantCulture, out int index)
                || index >= groups.Keys.Count || index.ToString(CultureInfo.InvariantCulture) != key)
            {
                throw Wrong($"the servers are not numbered well: 'server.{Shorten(key)}'", "server.0, server.1, …");
            }
        }

        if (groups.Keys.Count is 0 or > MaxServers)
        {
            throw Wrong(
                "driver 'gluster' does not know where the volume is", $"'server.0.host', and up to {MaxServers} servers");
        }

        for (int i = 0; i < groups.Keys.Count; i++)
        {
            string key = i.ToString(CultureInfo.InvariantCulture);
            if (groups.GetMap(key) is not { } group)
            {
                throw Wrong($"'server.{key}' is not a group", $"'server.{key}.host'");
            }

            string prefix = $"server.{key}.";
            object server = OptionBinder.Bind(group, "driver 'gluster'", prefix, [typeof(GlusterServerOptions)], [])[0];
            servers.Add(ServerOf((GlusterServerOptions)server, prefix));
        }

        return servers;
    }

    private static GfapiServer ServerOf(GlusterServerOptions server, string prefix)
    {
        if (server.Type == GlusterTransport.Unix || (server.Type is null && server.Path is not null))
        {
            return server is { Path: { Length: > 0 and <= 107 } path, Host: null, Port: null }
                ? new GfapiServer("unix", Path.GetFullPath(path), 0)
                : throw Wrong($"'{prefix}path' names a unix socket, and there is neither host nor port then", "a path");
        }

        if (server.Host is not { Length: > 0 and <= 255 } host || server.Path is not null
            || host.Any(c => char.IsControl(c) || char.IsWhiteSpace(c) || c == '/'))
        {
            throw Wrong($"'{prefix}host' is missing or cannot be one", "a name or an address, and no 'path'");
        }

        int port = server.Port is null or 0 ? DefaultPort : server.Port.Value;
        return new GfapiServer(server.Type == GlusterTransport.Rdma ? "rdma" : "tcp", host, port);
    }

    private static string Shorten(string text) => text.Length <= 40 ? text : text[..40] + "…";

    private static BlockException Wrong(string what, string expected) =>
        new(BlockErrorKind.InvalidArgument, what) { Expected = expected };
}
