using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Protocols;

/// <summary>
/// The one table from the host's errno to the kind of a <see cref="BlockException"/>, with what the user can do. Used
/// by every protocol that ends in system calls.
/// </summary>
public static class HostErrors
{
    private const BlockErrorKind Denied = BlockErrorKind.PermissionDenied;
    private const BlockErrorKind Missing = BlockErrorKind.NotFound;
    private const BlockErrorKind Argument = BlockErrorKind.InvalidArgument;
    private const BlockErrorKind Full = BlockErrorKind.NoSpace;
    private const BlockErrorKind Busy = BlockErrorKind.InUse;
    private const BlockErrorKind Failed = BlockErrorKind.IoError;

    private static readonly Dictionary<int, (BlockErrorKind Kind, string? Hint)> Table = new()
    {
        [Errno.EPERM] = (Denied, "The file may be immutable or append-only (lsattr), or the device may need root."),
        [Errno.EACCES] = (Denied, "Check the permissions of the file and of every folder on the way to it."),
        [Errno.EROFS] = (BlockErrorKind.ReadOnly, "The file system or the device is read-only."),
        [Errno.ENOENT] = (Missing, "Check the spelling; a symbolic link may point nowhere."),
        [Errno.ENOTDIR] = (Missing, "A part of the path is a file, not a folder."),
        [Errno.ENODEV] = (Missing, "The device, or the driver for it, is not there."),
        [Errno.ENXIO] = (Missing, "The device behind this node is not there."),
        [Errno.ENOMEDIUM] = (Missing, "Insert a medium into the drive."),
        [Errno.EISDIR] = (Argument, "A folder is not an image; name a file in it."),
        [Errno.ENAMETOOLONG] = (Argument, "The name is longer than the file system allows."),
        [Errno.ELOOP] = (Argument, "The symbolic links on the way lead in a circle."),
        [Errno.EEXIST] = (Argument, "Remove the file first, or choose another name."),
        [Errno.EINVAL] = (Argument, null),
        [Errno.EOPNOTSUPP] = (BlockErrorKind.NotSupported, null),
        [Errno.ENOSYS] = (BlockErrorKind.NotSupported, null),
        [Errno.ETXTBSY] = (Busy, "The file is a running program, or is used for swapping."),
        [Errno.EBUSY] = (Busy, "The device is mounted, or is part of a RAID, LVM or swap."),
        [Errno.EAGAIN] = (Busy, null),
        [Errno.ENOSPC] = (Full, "Free some space on the file system that holds the file, then try again."),
        [Errno.EDQUOT] = (Full, "The disk quota of the file's owner is used up."),
        [Errno.EFBIG] = (Full, "The file would be larger than its file system, or `ulimit -f`, allows."),
        [Errno.EMFILE] = (BlockErrorKind.LimitExceeded, "Raise the limit of open files (`ulimit -n`)."),
        [Errno.ENFILE] = (BlockErrorKind.LimitExceeded, "The whole system has too many open files."),
        [Errno.ENOMEM] = (BlockErrorKind.LimitExceeded, "The machine is out of memory."),
        [Errno.EIO] = (Failed, "The storage below failed; the kernel's log (dmesg) may say why."),
        [Errno.ESTALE] = (Failed, "The file was removed on the file server."),
        [Errno.EUCLEAN] = (Failed, "The file system that holds the file is damaged; check it (fsck)."),
        [Errno.ETIMEDOUT] = (BlockErrorKind.TimedOut, null),
    };

    /// <summary>The kind that an errno has; <see cref="BlockErrorKind.IoError"/> for those without a place in the
    /// table.</summary>
    public static BlockErrorKind KindOf(int errno) => Table.TryGetValue(errno, out var row) ? row.Kind : Failed;

    /// <summary>"disk.raw: cannot open for writing: Permission denied (EACCES). Check …"</summary>
    /// <param name="errno">Positive errno.</param>
    /// <param name="operation">What was tried: "cannot open for writing".</param>
    /// <param name="name">File it was tried on.</param>
    /// <param name="offset">Byte offset in the file, if it has to do with one.</param>
    /// <param name="hint">What the user can do, where more is known than the table says.</param>
    public static BlockException Make(
        int errno, string operation, string name, long? offset = null, string? hint = null)
    {
        Table.TryGetValue(errno, out (BlockErrorKind Kind, string? Hint) row);
        var e = new BlockException(KindOf(errno), $"{operation}: {Errno.Format(errno)}")
        {
            Offset = offset,
            Errno = errno,
            Hint = hint ?? row.Hint,
        };
        e.Stamp(name, offset);
        return e;
    }
}
