using ImageMount.Interop;

namespace ImageMount.Fuse;

/// <summary>
/// An operation of a <see cref="FuseFileSystem"/> fails with this errno. For slow paths: the hot operations return a
/// negated errno instead, because an exception costs some ten microseconds.
/// </summary>
public class FuseException : IOException
{
    /// <param name="errno">Positive errno, 1…4095 (see <see cref="Interop.Errno"/>).</param>
    /// <param name="message">For logs; the kernel only learns the number.</param>
    /// <param name="inner">What went wrong below.</param>
    public FuseException(int errno, string? message = null, Exception? inner = null)
        : base(message ?? Interop.Errno.Format(errno), inner)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(errno, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(errno, 4095);
        Errno = errno;
    }

    /// <summary>The errno the caller of the system call will see, positive.</summary>
    public int Errno { get; }
}
