using ImageMount.Core.Memory;
using ImageMount.Interop;

namespace ImageMount.Protocols.Files;

/// <summary>
/// Zeroes and frees ranges of a file or block device, by the cheapest means its file system has. What the file system
/// turned out not to have is remembered and not asked for again.
/// </summary>
/// <param name="fd">Open descriptor of the file, writable.</param>
/// <param name="name">What messages call it.</param>
/// <param name="deviceBlock">0 for a regular file; the logical block size of a device.</param>
/// <param name="mayFree">False: the user wants space to stay allocated.</param>
internal sealed class FileSpace(int fd, string name, int deviceBlock, bool mayFree)
{
    private const int PunchMode = SysFallocate.FALLOC_FL_PUNCH_HOLE | SysFallocate.FALLOC_FL_KEEP_SIZE;
    private const int ZeroMode = SysFallocate.FALLOC_FL_ZERO_RANGE | SysFallocate.FALLOC_FL_KEEP_SIZE;

    private bool _noPunch;
    private bool _noZeroRange;
    private bool _noZeroOut;
    private bool _noDiscard;

    /// <summary>Makes a range read as zeroes; false when nothing here can, and nothing has changed.</summary>
    public bool TryZero(long offset, long count, bool mayUnmap)
    {
        if (deviceBlock != 0)
        {
            return TryZeroDevice(offset, count, mayUnmap && mayFree);
        }

        if (mayUnmap && mayFree && TryAllocate(ref _noPunch, PunchMode, offset, count))
        {
            return true;
        }

        // Where zeroing in place is missing (tmpfs), a hole does as well, if holes are welcome.
        return TryAllocate(ref _noZeroRange, ZeroMode, offset, count)
            || (mayFree && TryAllocate(ref _noPunch, PunchMode, offset, count));
    }

    /// <summary>Frees the space of a range; false when nothing was done.</summary>
    public bool TryDiscard(long offset, long count)
    {
        if (!mayFree)
        {
            return false;
        }

        if (deviceBlock == 0)
        {
            return TryAllocate(ref _noPunch, PunchMode, offset, count);
        }

        // Whole blocks only: the edges are somebody's data.
        (long from, long end) = WholeBlocks(offset, count);
        return from < end && !Volatile.Read(ref _noDiscard)
            && Done(ref _noDiscard, BlockDeviceControl.Discard(fd, from, end - from), from);
    }

    /// <summary>Takes space for a range; false where the file system cannot. A device has its space.</summary>
    public bool TryAllocate(long offset, long count)
    {
        if (deviceBlock != 0)
        {
            return true;
        }

        int errno = -SysFallocate.Allocate(fd, SysFallocate.FALLOC_FL_KEEP_SIZE, offset, count);
        return errno switch
        {
            0 => true,
            Errno.EOPNOTSUPP or Errno.ENOSYS or Errno.EINVAL or Errno.ENODEV => false,
            _ => throw HostErrors.Make(errno, $"cannot take space for {count} bytes", name, offset),
        };
    }

    private bool TryZeroDevice(long offset, long count, bool mayUnmap)
    {
        (long from, long end) = WholeBlocks(offset, count);
        if (from >= end)
        {
            return false;
        }

        bool done = (mayUnmap && TryAllocate(ref _noPunch, PunchMode, from, end - from))
            || (!Volatile.Read(ref _noZeroOut)
                && Done(ref _noZeroOut, BlockDeviceControl.ZeroOut(fd, from, end - from), from));
        if (done)
        {
            WriteZeroes(offset, from - offset);
            WriteZeroes(end, offset + count - end);
        }

        return done;
    }

    private (long From, long End) WholeBlocks(long offset, long count) =>
        (offset + deviceBlock - 1 & -(long)deviceBlock, offset + count & -(long)deviceBlock);

    /// <summary>Less than a block, through the page cache.</summary>
    private void WriteZeroes(long offset, long count)
    {
        if (count == 0)
        {
            return;
        }

        using BufferLease zeroes = BufferPool.Shared.Rent((int)count);
        zeroes.Span.Clear();
        if (SysPwrite.Write(fd, zeroes.Span, offset, 1, out int errno) != count)
        {
            throw HostErrors.Make(errno == 0 ? Errno.EIO : errno, $"cannot write {count} zeroes", name, offset);
        }
    }

    private bool TryAllocate(ref bool unsupported, int mode, long offset, long count) =>
        !Volatile.Read(ref unsupported)
        && Done(ref unsupported, SysFallocate.Allocate(fd, mode, offset, count), offset);

    private bool Done(ref bool unsupported, int result, long offset)
    {
        switch (-result)
        {
            case 0:
                return true;
            case Errno.EOPNOTSUPP or Errno.ENOSYS or Errno.ENOTTY or Errno.ENODEV:
                Volatile.Write(ref unsupported, true);
                return false;
            case Errno.EINVAL or Errno.EPERM or Errno.EACCES or Errno.ENOSPC:
                // Not for this range, not for this user (a file that is sealed against holes, a device with larger
                // blocks than it says), no room for the file system's own notes: writing zeroes may still work, and
                // says what is wrong when it does not.
                return false;
            default:
                throw HostErrors.Make(-result, "cannot zero or free a range", name, offset);
        }
    }
}
