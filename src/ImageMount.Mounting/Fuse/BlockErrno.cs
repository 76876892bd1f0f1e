using System.Collections.Frozen;
using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Mounting.Fuse;

/// <summary>The one table from kinds of failure to errno.</summary>
public static class BlockErrno
{
    private static readonly FrozenDictionary<BlockErrorKind, int> Table = new Dictionary<BlockErrorKind, int>
    {
        // The image is broken, not the request: programs treat EIO as a bad disk, which is what this is.
        [BlockErrorKind.InvalidData] = Errno.EIO,
        [BlockErrorKind.NotSupported] = Errno.EOPNOTSUPP,
        [BlockErrorKind.InvalidArgument] = Errno.EINVAL,
        [BlockErrorKind.NotFound] = Errno.ENOENT,
        [BlockErrorKind.PermissionDenied] = Errno.EACCES,
        [BlockErrorKind.ReadOnly] = Errno.EROFS,
        [BlockErrorKind.InUse] = Errno.EBUSY,
        [BlockErrorKind.OutOfRange] = Errno.EINVAL,
        [BlockErrorKind.NoSpace] = Errno.ENOSPC,
        [BlockErrorKind.LimitExceeded] = Errno.EFBIG,
        [BlockErrorKind.IoError] = Errno.EIO,
        [BlockErrorKind.TimedOut] = Errno.ETIMEDOUT,
        [BlockErrorKind.Cancelled] = Errno.EINTR,
    }.ToFrozenDictionary();

    /// <summary>
    /// The errno, positive, that a failure shows through the mount. A quota that was exceeded stays EDQUOT; every other
    /// host errno goes by its kind, because ENOENT or ENOSYS of some call below would mean something else up here.
    /// </summary>
    public static int Of(BlockException exception) =>
        exception.Errno == Errno.EDQUOT ? Errno.EDQUOT : Of(exception.Kind);

    /// <summary>The errno of a kind.</summary>
    public static int Of(BlockErrorKind kind) => Table.GetValueOrDefault(kind, Errno.EIO);
}
