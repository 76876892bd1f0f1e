using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;
using ImageMount.Fuse;
using ImageMount.Mounting;

namespace ImageMount.Cli.Background;

/// <summary>Which image, and how to open it.</summary>
public sealed record ImageRequest
{
    /// <summary>As the user wrote it.</summary>
    public required string Source { get; init; }

    /// <summary><see cref="Source"/> without secrets: for messages, the log, and the notes about mounts.</summary>
    public string Shown => Core.Graph.ShownSource.Of(Source);

    /// <summary><see cref="Source"/> is a list of options.</summary>
    public bool IsOptions { get; init; }

    /// <summary>Format, or null to recognise it.</summary>
    public string? Format { get; init; }

    public bool ForceShare { get; init; }

    public LockingMode Locking { get; init; }

    public bool AllowExternal { get; init; }

    /// <summary>Files of servers that send no parts go to a temporary file first.</summary>
    public bool Spool { get; init; }

    /// <summary>Window on the disk, as the user wrote it (with suffixes).</summary>
    public string? Offset { get; init; }

    public string? Size { get; init; }

    /// <summary>What becomes of files that FAT cannot hold, as the user wrote it; for folders only.</summary>
    public string? FatUnsupported { get; init; }

    /// <summary>A folder is scanned again between openings.</summary>
    public bool FatRefresh { get; init; }

    /// <summary>Writes go to a temporary overlay.</summary>
    public bool Overlay { get; init; }
}

/// <summary>
/// Everything that the process which serves a mount must know. Travels as JSON through its standard input.
/// </summary>
public sealed record MountRequest
{
    public required ImageRequest Image { get; init; }

    /// <summary>Absolute path.</summary>
    public required string MountPoint { get; init; }

    public bool ReadOnly { get; init; }

    public CacheMode Cache { get; init; }

    public bool Discard { get; init; } = true;

    public bool Growable { get; init; }

    public bool AllowOther { get; init; }

    public bool NonEmpty { get; init; }

    public uint? Uid { get; init; }

    public uint? Gid { get; init; }

    public uint? Mode { get; init; }

    public FuseTransportKind Transport { get; init; }

    public int Threads { get; init; }

    /// <summary>Absolute path or null.</summary>
    public string? PidFile { get; init; }

    /// <summary>Absolute path or null.</summary>
    public string? LogFile { get; init; }

    public bool Debug { get; init; }

    /// <summary>Passphrases and keys; owned by whoever made the request.</summary>
    public SecretStore Secrets { get; init; } = new();
}

/// <summary>What the background process says once, through its standard output: ready, or why not.</summary>
public sealed record ReadyReport
{
    public bool IsReady { get; init; }

    public string? Error { get; init; }

    /// <summary>What a passphrase was missing for, when that is why.</summary>
    public string? NeedsPassphraseOf { get; init; }

    /// <summary>Exception text, for --debug.</summary>
    public string? Detail { get; init; }

    public IReadOnlyList<string> Warnings { get; init; } = [];
}

/// <summary>What is kept of a mount in the state directory, for `list` and `umount`.</summary>
public sealed record MountState
{
    public int Pid { get; init; }

    /// <summary>
    /// Start time of the process (proc(5): stat, field 22), which tells it from a later one with its number.
    /// </summary>
    public ulong StartTime { get; init; }

    public string Source { get; init; } = "";

    /// <summary>Resolved source path, when it is a file of this host.</summary>
    public string? SourcePath { get; init; }

    public string MountPoint { get; init; } = "";

    public string Format { get; init; } = "";

    public bool ReadOnly { get; init; }

    public string Cache { get; init; } = "";

    public bool Overlay { get; init; }

    public DateTimeOffset Started { get; init; }

    public string? LogFile { get; init; }

    /// <summary>Set when the image could not be flushed or closed properly.</summary>
    public string? Failure { get; init; }
}
