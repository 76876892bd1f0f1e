namespace ImageMount.Interop;

/// <summary>One positional transfer, as the kernel does it: it may be interrupted and it may be short.</summary>
internal unsafe interface ITransferCall
{
    /// <summary>Bytes transferred (0: end of file), or -errno.</summary>
    nint Transfer(int fd, byte* buffer, nuint count, long offset);
}

/// <summary>
/// Turns transfers that may be interrupted or short into whole ones; the only such loop. The call is a type parameter
/// so that the JIT makes one copy of the loop for each system call, and a test can drive it with a script.
/// </summary>
internal static unsafe class TransferLoop
{
#if DEBUG
    [ThreadStatic]
    private static uint t_calls;
#endif

    /// <summary>
    /// Bytes transferred: all of <paramref name="count"/>; fewer at the end of the file, with errno 0; or fewer before
    /// a failure, with a positive errno.
    /// </summary>
    /// <param name="call">The system call.</param>
    /// <param name="fd">Open descriptor; the caller keeps it open.</param>
    /// <param name="buffer">Memory that stays where it is.</param>
    /// <param name="count">Bytes.</param>
    /// <param name="offset">Position in the file, bytes.</param>
    /// <param name="alignment">What the descriptor asks of offset, count and address (O_DIRECT); 1 for none. A request
    /// goes on only from a multiple of it.</param>
    /// <param name="errno">0, or a positive errno.</param>
    public static long Run<TCall>(
        TCall call, int fd, byte* buffer, long count, long offset, int alignment, out int errno)
        where TCall : struct, ITransferCall
    {
        long done = 0;
        while (true)
        {
            // SAFETY: done stays below count, and the caller keeps count bytes at buffer until the call returns.
            nint result = call.Transfer(fd, buffer + done, (nuint)Shorten(count - done, offset + done, alignment), offset + done);
            if (result > 0)
            {
                long reached = done + result;
                if (reached >= count)
                {
                    errno = 0;
                    return count;
                }

                // A direct transfer that stopped inside a block cannot go on there: the block is done again. When not
                // even one block was finished, the file ends here.
                long next = reached & -(long)alignment;
                if (next == done)
                {
                    errno = 0;
                    return reached;
                }

                done = next;
            }
            else if (result == 0)
            {
                errno = 0;
                return done;
            }
            else if (result != -Errno.EINTR)
            {
                errno = (int)-result;
                return done;
            }
        }
    }

    /// <summary>
    /// Debug builds ask for less than they could, so that short transfers are an everyday event. They stop between
    /// sectors, never inside one: two writes of the same sector at the same time leave one of them, as on a disk.
    /// </summary>
    private static long Shorten(long count, long offset, int alignment)
    {
#if DEBUG
        long end = offset + (count / 2) & -(long)Math.Max(alignment, 512);
        if (end > offset && ++t_calls % 3 == 0)
        {
            return end - offset;
        }
#endif
        _ = offset;
        _ = alignment;
        return count;
    }
}
