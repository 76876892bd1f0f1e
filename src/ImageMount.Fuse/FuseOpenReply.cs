namespace ImageMount.Fuse;

/// <summary>How the kernel treats one open file (FOPEN_* of linux/fuse.h).</summary>
[Flags]
public enum FuseOpenFlags : uint
{
    None = 0,

    /// <summary>FOPEN_DIRECT_IO: no page cache; every read(2) and write(2) becomes requests of its own size.</summary>
    DirectIo = 1 << 0,

    /// <summary>FOPEN_KEEP_CACHE: what the page cache holds of this inode stays valid across this open.</summary>
    KeepCache = 1 << 1,

    /// <summary>FOPEN_NONSEEKABLE.</summary>
    NonSeekable = 1 << 2,

    /// <summary>FOPEN_CACHE_DIR: the listing of this directory may be cached (with KeepCache: kept).</summary>
    CacheDirectory = 1 << 3,

    /// <summary>FOPEN_STREAM: no file position at all.</summary>
    Stream = 1 << 4,

    /// <summary>FOPEN_NOFLUSH: no FLUSH on close(2); ignored by the kernel with a writeback cache.</summary>
    NoFlush = 1 << 5,

    /// <summary>FOPEN_PARALLEL_DIRECT_WRITES: several direct writes to one inode at a time. Only with
    /// DirectIo.</summary>
    ParallelDirectWrites = 1 << 6,

    /// <summary>FOPEN_PASSTHROUGH: the kernel serves reads and writes from <see cref="FuseOpenReply.BackingId"/>.
    /// Exclusive with cached opens of the same inode: once one open of an inode passes through, all must.</summary>
    Passthrough = 1 << 7,
}

/// <summary>Answer to OPEN and OPENDIR.</summary>
/// <param name="Handle">Comes back in every operation on this open file. 0 is as good as any other.</param>
/// <param name="Flags">How the kernel treats the open file.</param>
/// <param name="BackingId">Only with <see cref="FuseOpenFlags.Passthrough"/>: what
/// <see cref="IFuseConnection.RegisterBacking"/> returned (positive).</param>
public readonly record struct FuseOpenReply(ulong Handle, FuseOpenFlags Flags = FuseOpenFlags.None, int BackingId = 0);

/// <summary>Answer to CREATE and TMPFILE: the new inode, and the file opened on it.</summary>
public readonly record struct FuseCreateReply(FuseEntry Entry, FuseOpenReply Open);

/// <summary>Answer to IOCTL.</summary>
/// <param name="Result">What ioctl(2) returns, ≥ 0.</param>
/// <param name="OutputLength">How many bytes of the output buffer were filled.</param>
public readonly record struct FuseIoctlReply(int Result, int OutputLength);
