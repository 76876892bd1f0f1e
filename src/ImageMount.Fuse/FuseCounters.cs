namespace ImageMount.Fuse;

/// <summary>A snapshot of what a session has done; counts since the mount.</summary>
public readonly record struct FuseCounters
{
    /// <summary>Requests taken from the kernel, of every kind.</summary>
    public long Requests { get; init; }

    /// <summary>Of these, how many were answered with an errno.</summary>
    public long Errors { get; init; }

    /// <summary>Of these, how many suspended instead of completing on their worker.</summary>
    public long Suspended { get; init; }

    /// <summary>INTERRUPT requests that hit a request in flight.</summary>
    public long Interrupted { get; init; }

    public long Reads { get; init; }
    public long ReadBytes { get; init; }
    public long Writes { get; init; }
    public long WriteBytes { get; init; }

    /// <summary>Requests in flight now.</summary>
    public int InFlight { get; init; }

    /// <summary>Request buffers in existence, and their bytes.</summary>
    public int Buffers { get; init; }
    public long BufferBytes { get; init; }
}
