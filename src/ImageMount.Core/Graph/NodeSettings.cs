using ImageMount.Core.Options;

namespace ImageMount.Core.Graph;

/// <summary>Options that every node has, whatever its driver.</summary>
public sealed record NodeSettings
{
    /// <summary>Name of the driver.</summary>
    [Option("driver", "Driver of the node; without it the format is recognised from the content.")]
    public string? Driver { get; init; }

    /// <summary>What messages call the node.</summary>
    [Option("node-name", "What messages call the node.")]
    public string? NodeName { get; init; }

    /// <summary>Open the node and all below it for reading only.</summary>
    [Option("read-only", "Open this node and all below it for reading only.")]
    public bool ReadOnly { get; init; }

    /// <summary>Read even though somebody else writes.</summary>
    [Option("force-share", "Read this node and all below it even though another program holds them for writing.")]
    public bool ForceShare { get; init; }

    /// <summary>What becomes of discards.</summary>
    [Option("discard", "Whether discards free space on the host.")]
    public DiscardMode? Discard { get; init; }

    /// <summary>Bypass the page cache.</summary>
    [Option("cache.direct", "Bypass the page cache of the host for this node and all below it.")]
    public bool? CacheDirect { get; init; }

    /// <summary>Ignore flushes.</summary>
    [Option("cache.no-flush", "Ignore flushes for this node and all below it: fast, and unsafe in a crash.")]
    public bool? CacheNoFlush { get; init; }

    /// <summary>The flags of the user, changed as this node asks.</summary>
    internal OpenFlags Apply(OpenFlags flags) => flags with
    {
        Writable = flags.Writable && !ReadOnly,
        ForceShare = flags.ForceShare || ForceShare,
        Discard = Discard is null ? flags.Discard : Discard == DiscardMode.Unmap,
        Direct = CacheDirect ?? flags.Direct,
        IgnoreFlush = CacheNoFlush ?? flags.IgnoreFlush,
    };
}

/// <summary>What becomes of discards.</summary>
public enum DiscardMode
{
    /// <summary>They free space.</summary>
    Unmap,

    /// <summary>They do nothing.</summary>
    Ignore,
}
