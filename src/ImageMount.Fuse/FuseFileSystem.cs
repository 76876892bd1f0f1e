using ImageMount.Interop;

namespace ImageMount.Fuse;

/// <summary>
/// A file system served through FUSE, by inode number. Derive, override what it can do, hand it to
/// <see cref="FuseSession.MountAsync"/>. Only <see cref="GetAttributesAsync"/> is compulsory.
/// </summary>
/// <remarks>
/// <para><b>Threads.</b> Any number of operations run at once, on the session's workers; nothing is serialised. A
/// method that completes synchronously is answered on the worker's own thread with no heap allocation. A method that
/// suspends gives its worker back; the reply is sent by whoever runs the continuation. Never block a worker on
/// something that needs another request of the same mount.</para>
/// <para><b>Buffers.</b> Memory handed to a method (names, data, destinations) belongs to the request and is valid
/// until the returned task completes, not longer. READ destinations and WRITE payloads start on a page boundary
/// (4096), fit for O_DIRECT.</para>
/// <para><b>Errors.</b> Methods that return <c>ValueTask&lt;int&gt;</c> or <c>long</c> answer a negated errno
/// (<c>-Errno.EIO</c>); methods that return <see cref="FuseResult{T}"/> answer <c>new FuseError(Errno.ENOENT)</c>; both
/// may throw instead, and <see cref="MapException"/> makes an errno of it. A count larger than asked for is a bug of
/// the file system and answered EIO.</para>
/// <para><b>Cancellation.</b> The token fires when the caller of the system call was interrupted by a signal
/// (FUSE_INTERRUPT). Ignoring it is correct. A cancelled operation throws <see cref="OperationCanceledException"/> or
/// answers <c>-EINTR</c>, and only after nothing touches its buffers any more.</para>
/// <para><b>ENOSYS.</b> The kernel remembers ENOSYS and does not ask again, for all files of the mount. The defaults
/// say ENOSYS only where that is what one wants (named below); an override should not.</para>
/// </remarks>
public abstract class FuseFileSystem
{
    /// <summary>The root's inode number (FUSE_ROOT_ID).</summary>
    public const ulong RootInode = 1;

    // ---- life of the mount -------------------------------------------------------------------------------------

    /// <summary>INIT: runs once, before anything else, with what was negotiated. A failure fails the mount.</summary>
    public virtual ValueTask InitializeAsync(IFuseConnection connection, CancellationToken cancellationToken) =>
        default;

    /// <summary>The mount is gone: flush and close. Runs once, after the last operation has completed, whether the
    /// kernel sent DESTROY or merely hung up (it sends DESTROY only for some kinds of mounts, and RELEASE for files
    /// closed in the last moment may never come). What it throws comes out of <see cref="FuseSession.WaitAsync"/>.
    /// </summary>
    public virtual ValueTask DestroyAsync() => default;

    /// <summary>Makes a positive errno of an exception. Default: that of <see cref="FuseException"/> and
    /// <see cref="ErrnoException"/>, EINTR for a cancellation, ENOMEM, else EIO.</summary>
    public virtual int MapException(Exception exception) => exception switch
    {
        FuseException fuse => fuse.Errno,
        ErrnoException system => system.Errno,
        OperationCanceledException => Errno.EINTR,
        OutOfMemoryException => Errno.ENOMEM,
        _ => Errno.EIO,
    };

    // ---- inodes ------------------------------------------------------------------------------------------------

    /// <summary>LOOKUP: what <paramref name="name"/> in directory <paramref name="parent"/> is. Default:
    /// ENOENT.</summary>
    public virtual ValueTask<FuseResult<FuseEntry>> LookupAsync(
        FuseRequestContext context, ulong parent, FuseName name, CancellationToken cancellationToken) =>
        FuseResult<FuseEntry>.Failed(Errno.ENOENT);

    /// <summary>FORGET and BATCH_FORGET: the kernel drops <paramref name="lookupCount"/> of the references that entries
    /// gave it. Never answered, must not fail, must not block. Not sent for what is left at unmount.</summary>
    public virtual void Forget(ulong inode, ulong lookupCount)
    {
    }

    /// <summary>GETATTR. <paramref name="handle"/> is given when the kernel asks through an open file.</summary>
    public abstract ValueTask<FuseResult<FuseAttributes>> GetAttributesAsync(
        FuseRequestContext context, ulong inode, ulong? handle, CancellationToken cancellationToken);

    /// <summary>SETATTR: truncate, chmod, chown, utimens. Answers the attributes afterwards. Default: EPERM.</summary>
    public virtual ValueTask<FuseResult<FuseAttributes>> SetAttributesAsync(
        FuseRequestContext context, ulong inode, FuseSetAttributes change, CancellationToken cancellationToken) =>
        FuseResult<FuseAttributes>.Failed(Errno.EPERM);

    /// <summary>STATX (7.39), which the kernel sends when somebody asks for the birth time. Default: ENOSYS; the kernel
    /// then uses GETATTR for good.</summary>
    public virtual ValueTask<FuseResult<FuseStatx>> StatxAsync(
        FuseRequestContext context, ulong inode, ulong? handle, uint flags, uint mask,
        CancellationToken cancellationToken) =>
        FuseResult<FuseStatx>.Failed(Errno.ENOSYS);

    /// <summary>ACCESS, which the kernel sends only without <see cref="FuseSessionOptions.DefaultPermissions"/>.
    /// <paramref name="mask"/> is that of access(2). Answers 0 or -errno. Default: ENOSYS, which lets everybody in, for
    /// good.</summary>
    public virtual ValueTask<int> AccessAsync(
        FuseRequestContext context, ulong inode, uint mask, CancellationToken cancellationToken) =>
        new(-Errno.ENOSYS);

    /// <summary>READLINK: fills in the target (up to 4095 bytes) and answers its length. Default: EINVAL (no link).
    /// </summary>
    public virtual ValueTask<int> ReadLinkAsync(
        FuseRequestContext context, ulong inode, Memory<byte> destination, CancellationToken cancellationToken) =>
        new(-Errno.EINVAL);

    /// <summary>STATFS. Default: zeros and a name length of 255.</summary>
    public virtual ValueTask<FuseResult<FuseStatfs>> StatfsAsync(
        FuseRequestContext context, ulong inode, CancellationToken cancellationToken) =>
        FuseResult<FuseStatfs>.Completed(new FuseStatfs { BlockSize = 4096, FragmentSize = 4096, NameLength = 255 });

    // ---- changing the tree -------------------------------------------------------------------------------------
    // On a read-only mount the kernel answers EROFS without asking; otherwise the defaults say EPERM, which is what
    // the manual pages give for "this file system cannot".

    /// <summary>MKNOD. <paramref name="mode"/> has the type and the permissions, umask applied. Default:
    /// EPERM.</summary>
    public virtual ValueTask<FuseResult<FuseEntry>> MakeNodeAsync(
        FuseRequestContext context, ulong parent, FuseName name, uint mode, uint device,
        CancellationToken cancellationToken) =>
        FuseResult<FuseEntry>.Failed(Errno.EPERM);

    /// <summary>MKDIR. Default: EPERM.</summary>
    public virtual ValueTask<FuseResult<FuseEntry>> MakeDirectoryAsync(
        FuseRequestContext context, ulong parent, FuseName name, uint mode, CancellationToken cancellationToken) =>
        FuseResult<FuseEntry>.Failed(Errno.EPERM);

    /// <summary>SYMLINK. Default: EPERM.</summary>
    public virtual ValueTask<FuseResult<FuseEntry>> MakeSymlinkAsync(
        FuseRequestContext context, ulong parent, FuseName name, FuseName target,
        CancellationToken cancellationToken) =>
        FuseResult<FuseEntry>.Failed(Errno.EPERM);

    /// <summary>LINK. Default: EPERM.</summary>
    public virtual ValueTask<FuseResult<FuseEntry>> LinkAsync(
        FuseRequestContext context, ulong inode, ulong newParent, FuseName newName,
        CancellationToken cancellationToken) =>
        FuseResult<FuseEntry>.Failed(Errno.EPERM);

    /// <summary>UNLINK. Answers 0 or -errno. Default: EPERM.</summary>
    public virtual ValueTask<int> UnlinkAsync(
        FuseRequestContext context, ulong parent, FuseName name, CancellationToken cancellationToken) =>
        new(-Errno.EPERM);

    /// <summary>RMDIR. Answers 0 or -errno. Default: EPERM.</summary>
    public virtual ValueTask<int> RemoveDirectoryAsync(
        FuseRequestContext context, ulong parent, FuseName name, CancellationToken cancellationToken) =>
        new(-Errno.EPERM);

    /// <summary>RENAME and RENAME2; <paramref name="flags"/> are those of renameat2(2). Default: EPERM.</summary>
    public virtual ValueTask<int> RenameAsync(
        FuseRequestContext context, ulong parent, FuseName name, ulong newParent, FuseName newName, uint flags,
        CancellationToken cancellationToken) =>
        new(-Errno.EPERM);

    /// <summary>CREATE: makes and opens a regular file. <paramref name="flags"/> are those of open(2). Default: EPERM.
    /// </summary>
    public virtual ValueTask<FuseResult<FuseCreateReply>> CreateAsync(
        FuseRequestContext context, ulong parent, FuseName name, uint mode, int flags,
        CancellationToken cancellationToken) =>
        FuseResult<FuseCreateReply>.Failed(Errno.EPERM);

    /// <summary>TMPFILE (7.37): open(2) with O_TMPFILE. Default: ENOSYS, which the caller sees as EOPNOTSUPP.</summary>
    public virtual ValueTask<FuseResult<FuseCreateReply>> CreateTemporaryAsync(
        FuseRequestContext context, ulong parent, uint mode, int flags, CancellationToken cancellationToken) =>
        FuseResult<FuseCreateReply>.Failed(Errno.ENOSYS);

    // ---- open files --------------------------------------------------------------------------------------------

    /// <summary>OPEN. <paramref name="flags"/> are those of open(2) without O_CREAT, O_EXCL, O_NOCTTY; with O_TRUNC
    /// when the file is to be truncated as part of it. Default: handle 0 and the page cache.</summary>
    public virtual ValueTask<FuseResult<FuseOpenReply>> OpenAsync(
        FuseRequestContext context, ulong inode, int flags, CancellationToken cancellationToken) =>
        FuseResult<FuseOpenReply>.Completed(default);

    /// <summary>READ: fills <paramref name="destination"/> from <paramref name="offset"/> (bytes) and answers the
    /// count; fewer than asked for only at the end of the file (with a page cache the kernel takes it for the end), or
    /// -errno.</summary>
    public virtual ValueTask<int> ReadAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
        CancellationToken cancellationToken) =>
        new(-Errno.EOPNOTSUPP);

    /// <summary>WRITE: answers how many bytes were taken, all of them normally, or -errno. Default: EROFS.</summary>
    public virtual ValueTask<int> WriteAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, ReadOnlyMemory<byte> data,
        FuseWriteInfo info, CancellationToken cancellationToken) =>
        new(-Errno.EROFS);

    /// <summary>FLUSH: a descriptor was closed (once for every close(2) of a duplicate); its error comes out of
    /// close(2). Not a durability point. Default: ENOSYS, "nothing to do here", for good.</summary>
    public virtual ValueTask<int> FlushAsync(
        FuseRequestContext context, ulong inode, ulong handle, CancellationToken cancellationToken) =>
        new(-Errno.ENOSYS);

    /// <summary>RELEASE: the last reference to the open file is gone. Its result reaches nobody.</summary>
    public virtual ValueTask<int> ReleaseAsync(
        FuseRequestContext context, ulong inode, ulong handle, int flags, CancellationToken cancellationToken) =>
        new(0);

    /// <summary>FSYNC: everything written so far is durable when this answers 0. Default: 0, right only for a file
    /// system that keeps nothing.</summary>
    /// <param name="dataOnly">fdatasync(2).</param>
    public virtual ValueTask<int> FsyncAsync(
        FuseRequestContext context, ulong inode, ulong handle, bool dataOnly, CancellationToken cancellationToken) =>
        new(0);

    /// <summary>FALLOCATE: <paramref name="mode"/> is passed through (FALLOC_FL_KEEP_SIZE 1, PUNCH_HOLE 2,
    /// ZERO_RANGE 16 …). Answers 0 or -errno. Default: EOPNOTSUPP.</summary>
    public virtual ValueTask<int> FallocateAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, long length, int mode,
        CancellationToken cancellationToken) =>
        new(-Errno.EOPNOTSUPP);

    /// <summary>LSEEK: only SEEK_DATA (3) and SEEK_HOLE (4) come here. Answers the offset or -errno (ENXIO past the
    /// end). Default: ENOSYS, with which the kernel treats every file as data throughout.</summary>
    public virtual ValueTask<long> SeekAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, int whence,
        CancellationToken cancellationToken) =>
        new(-Errno.ENOSYS);

    /// <summary>COPY_FILE_RANGE (and its 64-bit form): answers how many bytes were copied (0 = at the end) or -errno.
    /// Default: ENOSYS, with which the kernel reads and writes by itself.</summary>
    public virtual ValueTask<long> CopyFileRangeAsync(
        FuseRequestContext context, ulong sourceInode, ulong sourceHandle, long sourceOffset,
        ulong targetInode, ulong targetHandle, long targetOffset, long length, uint flags,
        CancellationToken cancellationToken) =>
        new(-Errno.ENOSYS);

    /// <summary>IOCTL, the restricted kind: the kernel takes direction and size out of <paramref name="command"/>.
    /// Default: ENOTTY.</summary>
    public virtual ValueTask<FuseResult<FuseIoctlReply>> IoctlAsync(
        FuseRequestContext context, ulong inode, ulong handle, uint command, ulong argument, uint flags,
        ReadOnlyMemory<byte> input, Memory<byte> output, CancellationToken cancellationToken) =>
        FuseResult<FuseIoctlReply>.Failed(Errno.ENOTTY);

    /// <summary>POLL: answers the ready events (≥ 0) or -errno. Default: ENOSYS, "always ready".</summary>
    public virtual ValueTask<int> PollAsync(
        FuseRequestContext context, ulong inode, ulong handle, ulong pollHandle, uint flags, uint events,
        CancellationToken cancellationToken) =>
        new(-Errno.ENOSYS);

    /// <summary>SYNCFS (only some kinds of mounts send it). Default: 0.</summary>
    public virtual ValueTask<int> SyncFileSystemAsync(
        FuseRequestContext context, ulong inode, CancellationToken cancellationToken) =>
        new(0);

    // ---- directories -------------------------------------------------------------------------------------------

    /// <summary>OPENDIR. Default: handle 0.</summary>
    public virtual ValueTask<FuseResult<FuseOpenReply>> OpenDirectoryAsync(
        FuseRequestContext context, ulong inode, int flags, CancellationToken cancellationToken) =>
        FuseResult<FuseOpenReply>.Completed(default);

    /// <summary>READDIR and READDIRPLUS: adds entries, from position <paramref name="offset"/> (0 = the beginning, else
    /// the <c>nextOffset</c> of the last entry seen), until the writer is full. Answers 0 or -errno; no entry at all
    /// means the end. Default: ENOTDIR.</summary>
    public virtual ValueTask<int> ReadDirectoryAsync(
        FuseRequestContext context, ulong inode, ulong handle, ulong offset, FuseDirectoryWriter writer,
        CancellationToken cancellationToken) =>
        new(-Errno.ENOTDIR);

    /// <summary>RELEASEDIR.</summary>
    public virtual ValueTask<int> ReleaseDirectoryAsync(
        FuseRequestContext context, ulong inode, ulong handle, int flags, CancellationToken cancellationToken) =>
        new(0);

    /// <summary>FSYNCDIR. Default: 0.</summary>
    public virtual ValueTask<int> FsyncDirectoryAsync(
        FuseRequestContext context, ulong inode, ulong handle, bool dataOnly, CancellationToken cancellationToken) =>
        new(0);

    // ---- extended attributes: a file system that overrides none of these has none, and ENOSYS says so for good --

    /// <summary>GETXATTR: fills in the value and answers its length. An empty destination asks for the length only; a
    /// value that does not fit answers -ERANGE, one that does not exist -ENODATA. Default: ENOSYS.</summary>
    public virtual ValueTask<int> GetXattrAsync(
        FuseRequestContext context, ulong inode, FuseName name, Memory<byte> destination,
        CancellationToken cancellationToken) =>
        new(-Errno.ENOSYS);

    /// <summary>LISTXATTR: fills in the names, each followed by a NUL, and answers the length; rules as for
    /// <see cref="GetXattrAsync"/>. Default: ENOSYS.</summary>
    public virtual ValueTask<int> ListXattrAsync(
        FuseRequestContext context, ulong inode, Memory<byte> destination, CancellationToken cancellationToken) =>
        new(-Errno.ENOSYS);

    /// <summary>SETXATTR; <paramref name="flags"/> are XATTR_CREATE (1) and XATTR_REPLACE (2). Default:
    /// ENOSYS.</summary>
    public virtual ValueTask<int> SetXattrAsync(
        FuseRequestContext context, ulong inode, FuseName name, ReadOnlyMemory<byte> value, int flags,
        CancellationToken cancellationToken) =>
        new(-Errno.ENOSYS);

    /// <summary>REMOVEXATTR. Default: ENOSYS.</summary>
    public virtual ValueTask<int> RemoveXattrAsync(
        FuseRequestContext context, ulong inode, FuseName name, CancellationToken cancellationToken) =>
        new(-Errno.ENOSYS);
}
