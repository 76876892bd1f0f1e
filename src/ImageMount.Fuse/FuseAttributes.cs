namespace ImageMount.Fuse;

/// <summary>Seconds since 1970 and nanoseconds (0…999,999,999), as stat(2) shows them.</summary>
public readonly record struct FuseTimestamp(long Seconds, uint Nanoseconds)
{
    /// <summary>The same instant; 100 ns resolution.</summary>
    public static FuseTimestamp From(DateTimeOffset time)
    {
        long ticks = time.UtcTicks - DateTimeOffset.UnixEpoch.UtcTicks;
        long seconds = Math.DivRem(ticks, TimeSpan.TicksPerSecond, out long rest);
        if (rest < 0)
        {
            seconds--;
            rest += TimeSpan.TicksPerSecond;
        }
        return new FuseTimestamp(seconds, (uint)(rest * 100));
    }
}

/// <summary>What stat(2) shows of an inode (struct fuse_attr), and how long the kernel may believe it.</summary>
public readonly record struct FuseAttributes
{
    /// <summary>Number shown as st_ino; 0 means "the inode number itself".</summary>
    public ulong Inode { get; init; }

    /// <summary>Bytes.</summary>
    public long Size { get; init; }

    /// <summary>Allocated space in units of 512 bytes (st_blocks), whatever the block size is.</summary>
    public long Blocks { get; init; }

    /// <summary>Preferred I/O size in bytes (st_blksize). It must be a power of two of at least 512, or 0 =
    /// 4096.</summary>
    public uint BlockSize { get; init; }

    /// <summary>File type and permissions: <see cref="FuseMode"/>. The type is not optional.</summary>
    public uint Mode { get; init; }

    public uint LinkCount { get; init; }
    public uint Uid { get; init; }
    public uint Gid { get; init; }

    /// <summary>Device number of device nodes, in the kernel's 32-bit encoding.</summary>
    public uint Device { get; init; }

    public FuseTimestamp AccessTime { get; init; }
    public FuseTimestamp ModifyTime { get; init; }
    public FuseTimestamp ChangeTime { get; init; }

    /// <summary>How long the kernel may answer stat(2) from memory. Zero: it asks every time. Note that with
    /// <see cref="FuseSessionOptions.WritebackCache"/> the kernel itself owns size and mtime of regular
    /// files.</summary>
    public TimeSpan Validity { get; init; }
}

/// <summary>What a name leads to: the answer of LOOKUP, MKNOD, MKDIR, SYMLINK, LINK and CREATE (struct fuse_entry_out).
/// Every one given to the kernel adds 1 to the inode's lookup count, until <see cref="FuseFileSystem.Forget"/>.
/// </summary>
public readonly record struct FuseEntry
{
    /// <summary>The inode number by which the kernel will name it; 1 is the root. 0 with a positive
    /// <see cref="Validity"/> is a cached "no such name".</summary>
    public ulong Inode { get; init; }

    /// <summary>Changes when an inode number is reused, so that (inode, generation) is unique for the mount's life.
    /// </summary>
    public ulong Generation { get; init; }

    /// <summary>How long the kernel may believe that the name leads here.</summary>
    public TimeSpan Validity { get; init; }

    public FuseAttributes Attributes { get; init; }
}

/// <summary>File types and permission bits of st_mode (stat.h), with their C names.</summary>
public static class FuseMode
{
    public const uint S_IFMT = 0xF000;
    public const uint S_IFSOCK = 0xC000;
    public const uint S_IFLNK = 0xA000;
    public const uint S_IFREG = 0x8000;
    public const uint S_IFBLK = 0x6000;
    public const uint S_IFDIR = 0x4000;
    public const uint S_IFCHR = 0x2000;
    public const uint S_IFIFO = 0x1000;
    public const uint S_ISUID = 0x800;
    public const uint S_ISGID = 0x400;
    public const uint S_ISVTX = 0x200;
}

/// <summary>What statfs(2) shows (struct fuse_kstatfs).</summary>
public readonly record struct FuseStatfs
{
    /// <summary>Total, free, and free for ordinary users; all in units of <see cref="FragmentSize"/>.</summary>
    public ulong Blocks { get; init; }
    public ulong BlocksFree { get; init; }
    public ulong BlocksAvailable { get; init; }
    public ulong Files { get; init; }
    public ulong FilesFree { get; init; }

    /// <summary>Preferred transfer size in bytes.</summary>
    public uint BlockSize { get; init; }

    /// <summary>Longest name in bytes.</summary>
    public uint NameLength { get; init; }

    /// <summary>The unit of the block counts, in bytes.</summary>
    public uint FragmentSize { get; init; }
}

/// <summary>Answer to STATX (7.39): attributes plus a birth time.</summary>
public readonly record struct FuseStatx
{
    public FuseAttributes Attributes { get; init; }

    /// <summary>Null: the file system does not know it.</summary>
    public FuseTimestamp? BirthTime { get; init; }
}
