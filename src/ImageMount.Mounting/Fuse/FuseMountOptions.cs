using ImageMount.Fuse;

namespace ImageMount.Mounting.Fuse;

/// <summary>How a disk is mounted through FUSE.</summary>
public sealed record FuseMountOptions
{
    /// <summary>Cache mode; the image must have been opened to match (<see cref="CacheModes"/>).</summary>
    public CacheMode Cache { get; init; } = CacheMode.Writeback;

    /// <summary>No writes.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Writing past the end grows the disk.</summary>
    public bool Growable { get; init; }

    /// <summary>Punched holes may free space.</summary>
    public bool Discard { get; init; } = true;

    /// <summary>Users other than the mounting one may enter.</summary>
    public bool AllowOther { get; init; }

    /// <summary>Mount over a directory that is not empty.</summary>
    public bool AllowNonEmpty { get; init; }

    /// <summary>Owner of the files; null: who mounts.</summary>
    public uint? Uid { get; init; }

    /// <summary>Group of the files; null: that of who mounts.</summary>
    public uint? Gid { get; init; }

    /// <summary>
    /// Permission bits of the files; null: 0600, with <see cref="AllowOther"/> 0644; without w when read-only.
    /// </summary>
    public uint? Mode { get; init; }

    /// <summary>What the mount table shows as the source.</summary>
    public string FsName { get; init; } = "imgmount";

    /// <summary>Time stamp of the files.</summary>
    public DateTimeOffset Time { get; init; } = DateTimeOffset.UtcNow;

    /// <summary>Transport to use.</summary>
    public FuseTransportKind Transport { get; init; } = FuseTransportKind.Auto;

    /// <summary>Worker threads; 0: by the number of processors.</summary>
    public int Workers { get; init; }

    /// <summary>
    /// Called before a disk file is opened while none is open, and everything that the kernel caches of them is dropped
    /// afterwards; null: nothing of that.
    /// </summary>
    public Func<ValueTask>? BeforeFirstOpen { get; init; }

    /// <summary>Hears of failures that no caller can be told of.</summary>
    public Action<string, Exception?>? Warning { get; init; }

    /// <summary>Sees every request; null: costs nothing.</summary>
    public IFuseTracer? Tracer { get; init; }
}
