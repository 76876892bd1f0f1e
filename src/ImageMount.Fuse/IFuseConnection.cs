using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse;

/// <summary>What was negotiated in INIT.</summary>
public sealed record FuseConnectionInfo
{
    /// <summary>Protocol version in use: the smaller of the kernel's and ours, 7.<see cref="Minor"/>.</summary>
    public required int Minor { get; init; }

    /// <summary>Largest WRITE in bytes.</summary>
    public required int MaxWrite { get; init; }

    /// <summary>Largest READ in bytes.</summary>
    public required int MaxRead { get; init; }

    /// <summary>Read-ahead that the kernel may do, bytes.</summary>
    public required int MaxReadahead { get; init; }

    /// <summary>The kernel delays and merges writes (FUSE_WRITEBACK_CACHE).</summary>
    public required bool WritebackCache { get; init; }

    /// <summary><see cref="IFuseConnection.RegisterBacking"/> may work (FUSE_PASSTHROUGH was granted).</summary>
    public required bool Passthrough { get; init; }

    /// <summary>All FUSE_* flags that both sides agreed on, flags2 in the upper half.</summary>
    public required ulong Flags { get; init; }
}

/// <summary>The way back to the kernel, for a file system: what was negotiated, notifications, backing files.
/// Safe from any thread, also while operations run; but a notification about an inode must not be sent from inside an
/// operation on that inode (the kernel may hold its lock: deadlock).</summary>
public interface IFuseConnection
{
    /// <summary>What was negotiated.</summary>
    FuseConnectionInfo Info { get; }

    /// <summary>Drops cached attributes and, of the data, <paramref name="length"/> bytes from
    /// <paramref name="offset"/> (length 0: to the end; a negative offset: attributes only).
    /// Answers 0, -ENOENT when the kernel knows no such inode, or another -errno.</summary>
    int NotifyInvalidateInode(ulong inode, long offset, long length);

    /// <summary>Drops the name from the directory cache. 0 or -errno.</summary>
    int NotifyInvalidateEntry(ulong parent, ReadOnlySpan<byte> name);

    /// <summary>Puts data into the page cache, as if it had been read. 0 or -errno.</summary>
    int NotifyStore(ulong inode, long offset, ReadOnlySpan<byte> data);

    /// <summary>A name disappeared by itself: drops it and tells inotify. 0 or -errno.</summary>
    int NotifyDelete(ulong parent, ulong child, ReadOnlySpan<byte> name);

    /// <summary>Registers a host file that the kernel is to serve by itself (FUSE_DEV_IOC_BACKING_OPEN). Answers an id
    /// &gt; 0 for <see cref="FuseOpenReply.BackingId"/>, or -errno: -EPERM (needs CAP_SYS_ADMIN), -EOPNOTSUPP (not
    /// granted in INIT, or not a regular file), -ELOOP (the file itself lies on a stacked file system). Then serve it
    /// the ordinary way. The descriptor may be closed afterwards; the id keeps the file open until
    /// unregistered.</summary>
    int RegisterBacking(SafeFileHandle file);

    /// <summary>Gives back an id; open files that use it are not disturbed. 0 or -errno.</summary>
    int UnregisterBacking(int backingId);
}
