using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Protocols.Gluster;

/// <summary>What failures of the library mean.</summary>
internal static class GlusterErrors
{
    /// <summary>The connection to the bricks is gone, or the file does not belong to it any more.</summary>
    public static bool IsLoss(int errno) => errno is Errno.ENOTCONN or Errno.EBADFD or Errno.EBADF or Errno.ESHUTDOWN
        or Errno.ECONNRESET or Errno.ECONNABORTED or Errno.ECONNREFUSED or Errno.EPIPE or Errno.ETIMEDOUT
        or Errno.EHOSTUNREACH or Errno.EHOSTDOWN or Errno.ENETUNREACH or Errno.ENETDOWN or Errno.ENETRESET;

    /// <summary>Nothing is known but that it did not happen; to be asked again.</summary>
    public static bool IsUnclear(int errno) =>
        errno is GfapiFile.UnknownErrno or Errno.EAGAIN or Errno.EINTR;

    /// <summary>The library is not there.</summary>
    public static BlockException NoLibrary() => new(
        BlockErrorKind.NotFound, $"{GfapiLibrary.FileName} (GlusterFS 6 or newer) is not installed")
    {
        Hint = $"Install the package {GfapiLibrary.DebianPackage}.",
    };

    /// <summary>A volume that cannot be reached.</summary>
    public static BlockException Connect(int errno, string volume, string peer)
    {
        (BlockErrorKind kind, string why, string hint) = errno switch
        {
            Errno.ENOENT => (BlockErrorKind.NotFound, $"there is no started volume '{volume}'",
                "Check the spelling (`gluster volume list`), and that it is started."),
            Errno.EACCES or Errno.EPERM => (BlockErrorKind.PermissionDenied, "access is denied",
                "See the volume's options auth.allow and server.allow-insecure."),
            Errno.ENOTCONN or Errno.ECONNREFUSED or Errno.ETIMEDOUT => (BlockErrorKind.IoError, "nobody answers there",
                "Check host and port, that glusterd runs, and that the volume is started."),
            _ => (BlockErrorKind.IoError, Errno.Format(errno), "Its bricks may be down (`gluster volume status`)."),
        };
        return new BlockException(kind, $"cannot connect to the volume '{volume}' by {peer}: {why}")
        {
            Hint = hint,
            Errno = errno,
        };
    }

    /// <summary>A request that was refused.</summary>
    /// <param name="errno">Positive.</param>
    /// <param name="operation">"cannot read".</param>
    /// <param name="offset">First byte of the request, where it has one.</param>
    public static BlockException Refused(int errno, string operation, long? offset = null)
    {
        BlockErrorKind kind = IsLoss(errno) ? BlockErrorKind.IoError : HostErrors.KindOf(errno);
        string why = errno == GfapiFile.UnknownErrno ? "it failed" : Errno.Format(errno);
        return new BlockException(kind, $"the volume {operation}: {why}")
        {
            Offset = offset,
            Errno = errno == GfapiFile.UnknownErrno ? Errno.EIO : errno,
            Hint = errno switch
            {
                Errno.ENOENT => "Check the spelling of the path in the volume.",
                Errno.ENOSPC or Errno.EDQUOT => "Free some space on the bricks, then try again.",
                Errno.EROFS => "The volume is read-only, or too few of its bricks are up.",
                Errno.ESTALE => "The file was removed or replaced.",
                Errno.EISDIR => "A folder is not an image; name a file in it.",
                _ => null,
            },
        };
    }

    /// <summary>The connection to the bricks is gone.</summary>
    public static BlockException Lost(int errno) =>
        new(BlockErrorKind.IoError, $"the bricks cannot be reached: {Errno.Format(errno)}") { Errno = errno };

    /// <summary>The file has become shorter.</summary>
    public static BlockException Shorter(long offset) =>
        new(BlockErrorKind.IoError, "the file ends before; it has become shorter") { Offset = offset, Errno = Errno.EIO };
}
