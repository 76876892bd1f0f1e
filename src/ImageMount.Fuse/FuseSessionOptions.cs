namespace ImageMount.Fuse;

/// <summary>How requests travel between the kernel and us.</summary>
public enum FuseTransportKind
{
    /// <summary>The best that this kernel offers and this build has.</summary>
    Auto,

    /// <summary>Worker threads, each blocking on its own clone of /dev/fuse.</summary>
    Threads,

    /// <summary>FUSE over io_uring (Linux 6.14, and only where /sys/module/fuse/parameters/enable_uring is Y). An error
    /// where it is not offered.</summary>
    Uring,
}

/// <summary>Everything a mount can be told. Defaults are right for a disk image that nobody else writes.</summary>
public sealed record FuseSessionOptions
{
    /// <summary>First column of /proc/self/mountinfo's source: what is mounted (an image path). No restrictions;
    /// commas and backslashes are escaped as fusermount3 wants.</summary>
    public string FsName { get; init; } = "fuse";

    /// <summary>The file system type is shown as <c>fuse.SUBTYPE</c>; mounts are found again by it.</summary>
    public string Subtype { get; init; } = "imgmount";

    /// <summary>MS_RDONLY: the kernel refuses writes by itself.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Users other than the mounting one may enter. Non-root needs <c>user_allow_other</c> in /etc/fuse.conf.
    /// </summary>
    public bool AllowOther { get; init; }

    /// <summary>The kernel checks mode, uid and gid; otherwise <see cref="FuseFileSystem.AccessAsync"/> is
    /// asked.</summary>
    public bool DefaultPermissions { get; init; } = true;

    /// <summary>Mount over a directory that is not empty. Off: an error says so.</summary>
    public bool AllowNonEmpty { get; init; }

    /// <summary>Largest request wanted, bytes, 4096…16 MiB; the kernel grants at most fs.fuse.max_pages_limit pages
    /// (1 MiB by default).</summary>
    public int MaxWrite { get; init; } = 1 << 20;

    /// <summary>Worker threads, 1…64; 0 = one a core (2…8), and more for as long as operations block their workers.
    /// </summary>
    public int Workers { get; init; }

    /// <summary>The kernel delays and merges writes. Exclusive with <see cref="Passthrough"/>: when both are asked for,
    /// this one wins (kernel rule).</summary>
    public bool WritebackCache { get; init; }

    /// <summary>Ask for FUSE_PASSTHROUGH, so that <see cref="IFuseConnection.RegisterBacking"/> can work.</summary>
    public bool Passthrough { get; init; }

    /// <summary>1: backing files must lie on a plain file system; 2: they may lie on overlayfs and its like (but then
    /// nothing can be stacked upon this mount). Only with <see cref="Passthrough"/>.</summary>
    public int PassthroughStackDepth { get; init; } = 1;

    /// <summary>The kernel drops cached data when it sees size or mtime change (FUSE_AUTO_INVAL_DATA). Off: only when
    /// told (FUSE_EXPLICIT_INVAL_DATA), which suits files that change only through this mount.</summary>
    public bool AutoInvalidateData { get; init; }

    /// <summary>The file system clears setuid and setgid bits by itself on write, truncate and chown, as flagged in the
    /// requests (FUSE_HANDLE_KILLPRIV_V2). A file system whose files never have these bits has nothing to do, and the
    /// kernel saves a GETXATTR before writes.</summary>
    public bool HandleKillPriv { get; init; } = true;

    /// <summary>open(2) with O_TRUNC arrives as one OPEN, and the kernel then takes the size for 0 (FUSE_ATOMIC_O_TRUNC).
    /// Off: as a SETATTR of its own, whose answer says what the size has become.</summary>
    public bool AtomicTruncate { get; init; } = true;

    /// <summary>Requests that the kernel has under way on its own account (read-ahead, write-back, asynchronous direct
    /// I/O), 1…65535.</summary>
    public int MaxBackground { get; init; } = 64;

    /// <summary>At so many background requests the kernel calls the mount congested; 0 = three quarters.</summary>
    public int CongestionThreshold { get; init; }

    /// <summary>Read-ahead to ask for in INIT and, when root, to set on the mount (read_ahead_kb). Bytes; 0 = as the
    /// kernel likes. Half a megabyte was the best by a quarter for sequential reads through the page cache (2.1 GB/s;
    /// 128 KiB 1.8, 1 MiB and more 1.65): larger requests fall out of the processor's cache between the
    /// copies.</summary>
    public int MaxReadahead { get; init; } = 512 << 10;

    /// <summary>With the writeback cache and as root: how much of the system's dirty-page limit, in percent (1…100),
    /// the mount may use. The kernel gives a FUSE mount 1 and holds it to that strictly, which costs a third of the
    /// write throughput; what it guards against is an untrusted server that never cleans. 0 = as the kernel
    /// likes.</summary>
    public int MaxDirtyPercent { get; init; } = 20;

    /// <summary>Resolution of time stamps in nanoseconds, 1…1,000,000,000, a power of ten.</summary>
    public uint TimeGranularity { get; init; } = 1;

    /// <summary>Transport to use.</summary>
    public FuseTransportKind Transport { get; init; } = FuseTransportKind.Auto;

    /// <summary>Upper bound, in bytes, of all request buffers together, in flight and idle. When it is reached, workers
    /// wait for an operation to complete before they read the next request; at least one buffer a worker is always
    /// granted.</summary>
    public long BufferMemoryLimit { get; init; } = 64L << 20;

    /// <summary>Hears of things that are nobody's answer: exceptions of the file system that became EIO, replies the
    /// kernel refused, a mount option that could not be applied. Called on workers: be quick.</summary>
    public Action<string, Exception?>? Warning { get; init; }

    /// <summary>Hears of every request and reply. Null: costs nothing.</summary>
    public IFuseTracer? Tracer { get; init; }
}

/// <summary>Sees every request, for <c>--trace</c> and for tests. Called on workers; must not throw.</summary>
public interface IFuseTracer
{
    /// <summary>A request was parsed. <paramref name="operation"/> is the kernel's name, such as <c>READ</c>;
    /// <paramref name="length"/> is its whole length in bytes.</summary>
    void Request(ulong unique, string operation, ulong inode, int length);

    /// <summary>It was answered: <paramref name="error"/> is 0 or -errno, <paramref name="length"/> the
    /// reply's.</summary>
    void Reply(ulong unique, string operation, int error, int length);
}
