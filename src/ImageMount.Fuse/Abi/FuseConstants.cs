namespace ImageMount.Fuse.Abi;

/// <summary>Constants of linux/fuse.h (7.45), with the kernel's names.</summary>
internal static class FuseConstants
{
    public const uint FUSE_KERNEL_VERSION = 7;
    public const uint FUSE_KERNEL_MINOR_VERSION = 45;

    /// <summary>The oldest kernel spoken to: 7.23 (Linux 3.15) is the first whose structures all have their present
    /// size.</summary>
    public const uint MinimumMinor = 23;

    // INIT flags; bits 32…63 travel in flags2.
    public const ulong FUSE_ASYNC_READ = 1UL << 0;
    public const ulong FUSE_POSIX_LOCKS = 1UL << 1;
    public const ulong FUSE_ATOMIC_O_TRUNC = 1UL << 3;
    public const ulong FUSE_EXPORT_SUPPORT = 1UL << 4;
    public const ulong FUSE_BIG_WRITES = 1UL << 5;
    public const ulong FUSE_AUTO_INVAL_DATA = 1UL << 12;
    public const ulong FUSE_DO_READDIRPLUS = 1UL << 13;
    public const ulong FUSE_READDIRPLUS_AUTO = 1UL << 14;
    public const ulong FUSE_ASYNC_DIO = 1UL << 15;
    public const ulong FUSE_WRITEBACK_CACHE = 1UL << 16;
    public const ulong FUSE_NO_OPEN_SUPPORT = 1UL << 17;
    public const ulong FUSE_PARALLEL_DIROPS = 1UL << 18;
    public const ulong FUSE_MAX_PAGES = 1UL << 22;
    public const ulong FUSE_CACHE_SYMLINKS = 1UL << 23;
    public const ulong FUSE_NO_OPENDIR_SUPPORT = 1UL << 24;
    public const ulong FUSE_EXPLICIT_INVAL_DATA = 1UL << 25;
    public const ulong FUSE_HANDLE_KILLPRIV_V2 = 1UL << 28;
    public const ulong FUSE_SETXATTR_EXT = 1UL << 29;
    public const ulong FUSE_INIT_EXT = 1UL << 30;
    public const ulong FUSE_DIRECT_IO_ALLOW_MMAP = 1UL << 36;
    public const ulong FUSE_PASSTHROUGH = 1UL << 37;
    public const ulong FUSE_NO_EXPORT_SUPPORT = 1UL << 38;
    public const ulong FUSE_OVER_IO_URING = 1UL << 41;

    public const uint FUSE_GETATTR_FH = 1;
    public const uint FUSE_FSYNC_FDATASYNC = 1;

    // enum fuse_notify_code; sent as the error of a reply to request 0.
    public const int FUSE_NOTIFY_INVAL_INODE = 2;
    public const int FUSE_NOTIFY_INVAL_ENTRY = 3;
    public const int FUSE_NOTIFY_STORE = 4;
    public const int FUSE_NOTIFY_DELETE = 6;

    // ioctls of /dev/fuse, magic 229.
    public const uint FUSE_DEV_IOC_CLONE = 0x8004E500;         // _IOR(229, 0, uint32_t)
    public const uint FUSE_DEV_IOC_BACKING_OPEN = 0x4010E501;  // _IOW(229, 1, struct fuse_backing_map)
    public const uint FUSE_DEV_IOC_BACKING_CLOSE = 0x4004E502; // _IOW(229, 2, uint32_t)

    public const int PageSize = 4096;

    /// <summary>FUSE_DEFAULT_MAX_PAGES_PER_REQ: what a kernel without FUSE_MAX_PAGES uses.</summary>
    public const int DefaultMaxPages = 32;

    /// <summary>FUSE_MAX_MAX_PAGES: the limit before fs.fuse.max_pages_limit existed (Linux 6.13).</summary>
    public const int MaxMaxPages = 256;

    /// <summary>Longest name in a directory (NAME_MAX) and longest symlink target (PATH_MAX without its NUL).</summary>
    public const int NameMax = 255;
    public const int SymlinkMax = 4095;
}
