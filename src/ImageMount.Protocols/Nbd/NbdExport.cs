namespace ImageMount.Protocols.Nbd;

/// <summary>What a handshake found out about an export and how to talk about it.</summary>
internal sealed record NbdExport
{
    /// <summary>Bytes.</summary>
    public required long Size { get; init; }

    /// <summary>What it can do.</summary>
    public required NbdExportFlags Flags { get; init; }

    /// <summary>How the handshake went: "fixed newstyle", for `info`.</summary>
    public required string Style { get; init; }

    /// <summary>Smallest block, bytes, a power of two; 0 when the server did not say.</summary>
    public int MinBlock { get; init; }

    /// <summary>Preferred block, bytes; 0 when the server did not say.</summary>
    public int PreferredBlock { get; init; }

    /// <summary>Largest payload, bytes.</summary>
    public int MaxPayload { get; init; } = NbdLayout.DefaultMaxPayload;

    /// <summary>For people; may be null.</summary>
    public string? Description { get; init; }

    /// <summary>Replies come in chunks.</summary>
    public bool IsStructured { get; init; }

    /// <summary>Headers with 64-bit lengths.</summary>
    public bool IsExtended { get; init; }

    /// <summary>Number of the context for block status, or null when there is none.</summary>
    public uint? Context { get; init; }

    /// <summary>True when a capability is there.</summary>
    public bool Can(NbdExportFlags flag) => (Flags & flag) != 0;

    /// <summary>Largest length of a request without payload, bytes, a multiple of every block size.</summary>
    public long MaxRange => IsExtended ? 1L << 40 : 2L << 30;
}
