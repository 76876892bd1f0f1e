using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Interop;
using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Fuse;

/// <summary>
/// The rarer operations on a disk file, with the rules of fallocate(2), copy_file_range(2) and ftruncate(2).
/// </summary>
internal static class DiskRanges
{
    private const int FALLOC_FL_KEEP_SIZE = 0x01;
    private const int FALLOC_FL_PUNCH_HOLE = 0x02;
    private const int FALLOC_FL_ZERO_RANGE = 0x10;

    private const int CopyStep = 1 << 20;
    private const long MaxCopy = 64 << 20;

    /// <summary>fallocate(2) on a writable file; 0 or -errno.</summary>
    public static async ValueTask<int> FallocateAsync(DiskFile file, long offset, long length, int mode)
    {
        if (offset < 0 || length <= 0 || offset > long.MaxValue - length)
        {
            return -Errno.EINVAL;
        }

        bool keepSize = (mode & FALLOC_FL_KEEP_SIZE) != 0;
        switch (mode & ~FALLOC_FL_KEEP_SIZE)
        {
            case FALLOC_FL_PUNCH_HOLE when keepSize:
                await file.ZeroAsync(offset, length, mayFreeSpace: true, CancellationToken.None).ConfigureAwait(false);
                return 0;
            case FALLOC_FL_ZERO_RANGE:
                int grown = keepSize ? 0 : await GrowToAsync(file, offset + length).ConfigureAwait(false);
                if (grown == 0)
                {
                    await file.ZeroAsync(offset, length, mayFreeSpace: false, CancellationToken.None)
                        .ConfigureAwait(false);
                }

                return grown;
            case 0 when !keepSize && offset + length > file.Length:
                return await GrowToAsync(file, offset + length).ConfigureAwait(false);
            default:
                // Reserving space inside the disk is more than most formats can promise; glibc then writes instead.
                return -Errno.EOPNOTSUPP;
        }
    }

    /// <summary>
    /// Copies without a way through the caller; zeroes and holes stay what they are. Bytes copied, or -errno.
    /// </summary>
    public static async ValueTask<long> CopyAsync(
        DiskFile source, long sourceOffset, DiskFile target, long targetOffset, long length,
        CancellationToken cancellationToken)
    {
        if (sourceOffset < 0 || targetOffset < 0 || targetOffset >= target.Length)
        {
            return sourceOffset < 0 || targetOffset < 0 ? -Errno.EINVAL : -Errno.ENOSPC;
        }

        long total = Math.Min(Math.Min(length, MaxCopy), target.Length - targetOffset);
        total = Math.Clamp(source.Length - sourceOffset, 0, total);
        long done = 0;
        while (done < total)
        {
            BlockExtent extent = await source.Node
                .MapAsync(source.Offset + sourceOffset + done, total - done, cancellationToken).ConfigureAwait(false);
            int step = (int)Math.Min(extent.Length, CopyStep);
            if (extent.IsZero)
            {
                await target.ZeroAsync(targetOffset + done, step, true, CancellationToken.None).ConfigureAwait(false);
            }
            else
            {
                using BufferLease buffer = BufferPool.Shared.Rent(step);
                await source.ReadAsync(sourceOffset + done, buffer.Memory, CancellationToken.None)
                    .ConfigureAwait(false);
                await target.WriteAsync(targetOffset + done, buffer.Memory, WriteFlags.None, CancellationToken.None)
                    .ConfigureAwait(false);
            }

            done += step;
        }

        return done;
    }

    /// <summary>
    /// Only growing, and only with --growable. Size 0 is granted and changes nothing, as on a block device: it is what
    /// `cp`, `cat >` and `dd` ask for before they overwrite a file, by O_TRUNC, and a disk keeps its length.
    /// </summary>
    public static async ValueTask<int> ResizeAsync(TreeNode node, long size)
    {
        if (node is not DiskFile file)
        {
            return node is TreeDirectory ? Errno.EISDIR : Errno.EROFS;
        }

        if (size == file.Length || (size == 0 && file.CanWrite))
        {
            return 0;
        }

        if (!file.CanWrite)
        {
            return Errno.EROFS;
        }

        if (size < file.Length || !file.CanGrow)
        {
            return Errno.EPERM;
        }

        return await file.GrowAsync(size, CancellationToken.None).ConfigureAwait(false) ? 0 : Errno.EFBIG;
    }

    private static async ValueTask<int> GrowToAsync(DiskFile file, long length) =>
        length <= file.Length ? 0
        : !file.CanGrow ? -Errno.ENOSPC
        : await file.GrowAsync(length, CancellationToken.None).ConfigureAwait(false) ? 0 : -Errno.EFBIG;
}
