using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Protocols.Nbd;

/// <summary>Failures that an NBD server reports, or is.</summary>
internal static class NbdErrors
{
    /// <summary>The errors that the protocol knows; the rest counts as EINVAL.</summary>
    private static readonly int[] Known =
    [
        Errno.EPERM, Errno.EIO, Errno.ENOMEM, Errno.EINVAL, Errno.ENOSPC, Errno.EOVERFLOW, Errno.EOPNOTSUPP,
        Errno.ESHUTDOWN,
    ];

    /// <summary>A reply that breaks the protocol. The connection cannot be used any more.</summary>
    public static BlockException Protocol(string what, string? found = null, string? expected = null) =>
        new(BlockErrorKind.InvalidData, $"the NBD server breaks the protocol: {what}") { Found = found, Expected = expected };

    /// <summary>A request that the server refused.</summary>
    /// <param name="operation">"cannot read".</param>
    /// <param name="error">As in the reply.</param>
    /// <param name="message">The server's own words, or null.</param>
    /// <param name="offset">First byte of the request, where it has one.</param>
    public static BlockException Refused(string operation, uint error, string? message, long? offset)
    {
        int errno = Known.Contains((int)error) ? (int)error : Errno.EINVAL;
        BlockErrorKind kind = errno switch
        {
            Errno.EPERM => BlockErrorKind.ReadOnly,
            Errno.ENOSPC => BlockErrorKind.NoSpace,
            Errno.EOPNOTSUPP => BlockErrorKind.NotSupported,
            _ => BlockErrorKind.IoError,
        };
        string said = message is null ? "" : $": {message}";
        return new BlockException(kind, $"the server {operation}: {Errno.Format(errno)}{said}")
        {
            Offset = offset,
            Errno = errno,
        };
    }
}
