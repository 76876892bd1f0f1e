using ImageMount.Core.Options;

namespace ImageMount.Protocols.Gluster;

/// <summary>Kinds of addresses of a server.</summary>
public enum GlusterTransport
{
    /// <summary>TCP.</summary>
    Tcp,

    /// <summary>TCP, by another name.</summary>
    Inet,

    /// <summary>A unix socket of this host.</summary>
    Unix,

    /// <summary>RDMA.</summary>
    Rdma,
}

/// <summary>Options of the driver <c>gluster</c>; the names are QEMU's, but for those that the page says are ours.</summary>
public sealed record GlusterOptions
{
    /// <summary>Name of the volume.</summary>
    [Option("volume", "Name of the volume", Required = true)]
    public string Volume { get; init; } = "";

    /// <summary>Path of the file.</summary>
    [Option("path", "Path of the file in the volume", Required = true)]
    public string Path { get; init; } = "";

    /// <summary>Servers, by number.</summary>
    [Option("server", "Servers, tried one after the other: `server.0.type` (`tcp`, `inet`, `unix`, `rdma`), "
        + "`server.0.host`, `server.0.port`, `server.0.path` (the socket of type `unix`), `server.1.type`…")]
    public OptionMap? Servers { get; init; }

    /// <summary>How much the library says.</summary>
    [Option("debug", "How much libgfapi tells its log: 0 nothing, 4 errors and warnings, 9 everything", Min = 0, Max = 9)]
    public int Debug { get; init; } = 4;

    /// <summary>Where the library logs to.</summary>
    [Option("logfile", "File for the log of libgfapi; `-` for the standard error; without it there is none")]
    public string? LogFile { get; init; }

    /// <summary>Seconds that requests wait for a new connection.</summary>
    [Option("reconnect-delay", "Seconds for which requests wait while the bricks are away; 0: they fail at once",
        Min = 0, Max = 86400)]
    public int ReconnectDelay { get; init; } = 30;

    /// <summary>Seconds until a stalled connection is given up.</summary>
    [Option("timeout", "Seconds without any progress after which requests are given up; 0: never",
        Min = 0, Max = 86400)]
    public int Timeout { get; init; } = 30;
}

/// <summary>One of the servers.</summary>
public sealed record GlusterServerOptions
{
    /// <summary>Kind of address.</summary>
    [Option("type", "Kind of address", Aliases = ["transport"])]
    public GlusterTransport? Type { get; init; }

    /// <summary>Host.</summary>
    [Option("host", "Name or address of the server")]
    public string? Host { get; init; }

    /// <summary>TCP port.</summary>
    [Option("port", "TCP port of glusterd on it", Min = 0, Max = 65535)]
    public int? Port { get; init; }

    /// <summary>Unix socket.</summary>
    [Option("path", "Socket of glusterd on this host", Aliases = ["socket"])]
    public string? Path { get; init; }
}
