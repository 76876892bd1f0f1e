using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Protocols.Files;

/// <summary>Reads and writes through one descriptor, whole or with a reason.</summary>
/// <param name="fd">Open descriptor.</param>
/// <param name="durableFd">
/// Descriptor for durable writes, not the one that is flushed, as each hears of a failed write-back once. -1: none.
/// </param>
/// <param name="name">What messages call the file.</param>
/// <param name="alignment">What the descriptors ask of requests; 1 for none.</param>
/// <param name="sync">Flushes, where there are no durable writes.</param>
internal sealed class FileTransfer(int fd, int durableFd, string name, int alignment, FileSync sync)
{
    private bool _noDurableWrite = durableFd < 0;

    /// <summary>Fills the buffer.</summary>
    public void Read(long offset, Span<byte> buffer)
    {
        long done = SysPread.Read(fd, buffer, offset, alignment, out int errno);
        if (done != buffer.Length)
        {
            ThrowRead(buffer.Length, offset, done, errno);
        }
    }

    /// <summary>Writes the buffer.</summary>
    public void Write(long offset, ReadOnlySpan<byte> buffer, WriteFlags flags)
    {
        if ((flags & WriteFlags.Fua) != 0)
        {
            WriteDurably(offset, buffer);
            return;
        }

        long done = SysPwrite.Write(fd, buffer, offset, alignment, out int errno);
        if (done != buffer.Length)
        {
            ThrowWrite(buffer.Length, offset, done, errno);
        }
    }

    private void WriteDurably(long offset, ReadOnlySpan<byte> buffer)
    {
        if (!Volatile.Read(ref _noDurableWrite))
        {
            long done = SysPwritev2.WriteDurably(durableFd, buffer, offset, alignment, out int errno);
            if (done == buffer.Length)
            {
                return;
            }

            if (errno is not (Errno.EOPNOTSUPP or Errno.ENOSYS))
            {
                ThrowWrite(buffer.Length, offset, done, errno);
            }

            Volatile.Write(ref _noDurableWrite, true);
        }

        Write(offset, buffer, WriteFlags.None);
        sync.Flush();
    }

    private void ThrowRead(int count, long offset, long done, int errno)
    {
        if (errno != 0)
        {
            throw HostErrors.Make(errno, $"cannot read {count} bytes", name, offset + done);
        }

        var e = new BlockException(BlockErrorKind.IoError, "the file ends inside the disk")
        {
            Offset = offset + done,
            Found = "end of file",
            Expected = $"{count - done} more bytes",
            Hint = "Something else has shortened the file while it was open.",
        };
        e.Stamp(name, offset);
        throw e;
    }

    private void ThrowWrite(int count, long offset, long done, int errno) =>
        throw HostErrors.Make(errno == 0 ? Errno.EIO : errno, $"cannot write {count} bytes", name, offset + done);
}
