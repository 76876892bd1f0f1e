using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Protocols.Ssh;

/// <summary>Failures that an SFTP server reports, or is.</summary>
internal static class SftpErrors
{
    /// <summary>A packet that breaks the protocol. The connection cannot be used any more.</summary>
    public static BlockException Protocol(string what, string? found = null, string? expected = null) =>
        new(BlockErrorKind.InvalidData, $"the SFTP server breaks the protocol: {what}") { Found = found, Expected = expected };

    /// <summary>A request that the server refused.</summary>
    /// <param name="operation">"cannot read".</param>
    /// <param name="reply">Its answer.</param>
    /// <param name="offset">First byte of the request, where it has one.</param>
    public static BlockException Refused(string operation, in SftpReply reply, long? offset = null)
    {
        (BlockErrorKind kind, int errno, string why) = reply.Status switch
        {
            SftpStatus.Eof => (BlockErrorKind.IoError, Errno.EIO, "the file ends before; it has become shorter"),
            SftpStatus.NoSuchFile => (BlockErrorKind.NotFound, Errno.ENOENT, "there is no such file"),
            SftpStatus.PermissionDenied => (BlockErrorKind.PermissionDenied, Errno.EACCES, "permission is denied"),
            SftpStatus.Unsupported => (BlockErrorKind.NotSupported, Errno.EOPNOTSUPP, "it does not know how"),
            SftpStatus.Failure => (BlockErrorKind.IoError, Errno.EIO, "it failed"),
            _ => (BlockErrorKind.IoError, Errno.EIO, $"status {(uint)reply.Status}"),
        };
        string said = reply.Message is null or "Failure" ? "" : $": {reply.Message}";
        return new BlockException(kind, $"the server {operation}: {why}{said}")
        {
            Offset = offset,
            Errno = errno,
            Hint = reply.Status == SftpStatus.Failure && operation.Contains("write", StringComparison.Ordinal)
                ? "SFTP does not tell a full disk from other failures: look for free space on the server." : null,
        };
    }
}
