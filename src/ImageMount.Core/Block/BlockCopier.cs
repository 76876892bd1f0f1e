using ImageMount.Core.Memory;

namespace ImageMount.Core.Block;

/// <summary>
/// Copies the content of one disk to another. Zeroes are not written where the other reads as zeroes already. Several
/// pieces are under way at a time; memory is bounded by them. Failures of either side end it at once.
/// </summary>
public static class BlockCopier
{
    /// <summary>Bytes of a piece.</summary>
    public const int PieceSize = 1 << 20;

    private const int AtATime = 8;

    // Runs of zeroes shorter than this are written with their neighbours: a hole must be worth an extra request.
    private const int ZeroGrain = 64 << 10;

    /// <summary>Copies all of <paramref name="source"/>.</summary>
    /// <param name="source">Read from.</param>
    /// <param name="destination">At least as long.</param>
    /// <param name="progress">Told of the bytes done, now and then, by one thread at a time.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public static async Task CopyAsync(
        BlockNode source, BlockNode destination, Action<long>? progress = null,
        CancellationToken cancellationToken = default)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var running = new Queue<Task>();
        try
        {
            long length = source.Length;
            for (long at = 0; at < length;)
            {
                BlockExtent extent = await source.MapAsync(at, length - at, stop.Token).ConfigureAwait(false);
                if (extent.IsZero)
                {
                    await EnsureZeroAsync(destination, at, extent.Length, stop.Token).ConfigureAwait(false);
                    at += extent.Length;
                    continue;
                }

                for (long end = at + extent.Length; at < end;)
                {
                    if (running.Count == AtATime)
                    {
                        await running.Dequeue().ConfigureAwait(false);
                        progress?.Invoke(Math.Max(0, at - ((long)AtATime * PieceSize)));
                    }

                    int count = (int)Math.Min(end - at, PieceSize - (at % PieceSize));
                    long from = at;
                    running.Enqueue(Task.Run(() => CopyPieceAsync(source, destination, from, count, stop.Token), stop.Token));
                    at += count;
                }
            }

            while (running.TryDequeue(out Task? piece))
            {
                await piece.ConfigureAwait(false);
            }

            progress?.Invoke(length);
        }
        catch
        {
            // Nothing may still write when the caller takes the files away.
            await stop.CancelAsync().ConfigureAwait(false);
            await Task.WhenAll(running).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw;
        }

        await destination.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async Task CopyPieceAsync(
        BlockNode source, BlockNode destination, long offset, int count, CancellationToken cancellationToken)
    {
        using BufferLease buffer = BufferPool.Shared.Rent(count);
        await source.ReadAsync(offset, buffer.Memory, cancellationToken).ConfigureAwait(false);
        for (int from = 0; from < count;)
        {
            int to = from;
            bool isZero = IsZero(buffer.Span, offset, ref to);
            while (to < count)
            {
                int next = to;
                if (IsZero(buffer.Span, offset, ref next) != isZero)
                {
                    break;
                }

                to = next;
            }

            if (isZero)
            {
                await EnsureZeroAsync(destination, offset + from, to - from, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await destination.WriteAsync(
                    offset + from, buffer.Memory[from..to], WriteFlags.None, cancellationToken).ConfigureAwait(false);
            }

            from = to;
        }
    }

    /// <summary>An empty image need not read as zeroes: an encrypted one reads as noise, a device as what it held.</summary>
    private static async ValueTask EnsureZeroAsync(
        BlockNode destination, long offset, long count, CancellationToken cancellationToken)
    {
        for (long end = offset + count; offset < end;)
        {
            BlockExtent extent = await destination.MapAsync(offset, end - offset, cancellationToken).ConfigureAwait(false);
            if (!extent.IsZero)
            {
                await destination.ZeroAsync(offset, extent.Length, ZeroFlags.MayUnmap, cancellationToken)
                    .ConfigureAwait(false);
            }

            offset += extent.Length;
        }
    }

    /// <summary>Whether the grain at a place is all zero; moves the place behind it.</summary>
    private static bool IsZero(ReadOnlySpan<byte> piece, long offset, ref int at)
    {
        int from = at;
        at = (int)Math.Min(piece.Length, from + ZeroGrain - ((offset + from) % ZeroGrain));
        return !piece[from..at].ContainsAnyExcept((byte)0);
    }
}
