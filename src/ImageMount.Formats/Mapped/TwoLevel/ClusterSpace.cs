using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>
/// Room for new clusters: what was given back, then the end of the file, which grows in steps because growing is a
/// system call. What was not needed is cut off on close. New room reads as zeroes; room that was given back does not.
/// </summary>
/// <param name="file">The image.</param>
/// <param name="geometry">Sizes.</param>
/// <param name="maxEnd">Where the format can address no more, bytes.</param>
internal sealed class ClusterSpace(BlockNode file, ClusterGeometry geometry, long maxEnd)
{
    private const long MinGrowth = 1 << 20;
    private const long MaxGrowth = 64 << 20;
    private const int MaxFreeRuns = 1 << 16;
    private readonly Lock _lock = new();
    private readonly FreeRuns _free = new(MaxFreeRuns);
    private readonly SemaphoreSlim _growing = new(1, 1);
    private long _next = geometry.RoundUp(file.Length);
    private long _end = file.Length;
    private bool _grew;

    /// <summary>
    /// Takes up to so many neighbouring clusters that are there; false when the file has to grow first.
    /// </summary>
    /// <param name="clusters">How many.</param>
    /// <param name="exact">True: all of them, or none.</param>
    /// <param name="taken">What was taken.</param>
    public bool TryTake(long clusters, bool exact, out Room taken)
    {
        lock (_lock)
        {
            if (_free.TryPeek(clusters, out long first, out long count) && (count >= clusters || !exact))
            {
                count = Math.Min(count, clusters);
                _free.Take(first, count);
                taken = new Room(first << geometry.ClusterBits, count, false);
                return true;
            }

            long there = (_end - _next) >> geometry.ClusterBits;
            count = Math.Min(clusters, there);
            taken = new Room(_next, count, true);
            if (count <= 0 || (exact && count < clusters))
            {
                return false;
            }

            _next += count << geometry.ClusterBits;
            return true;
        }
    }

    /// <summary>Takes neighbouring clusters, growing the file if need be.</summary>
    public async ValueTask<Room> TakeAsync(long clusters, CancellationToken cancellationToken)
    {
        Room taken;
        while (!TryTake(clusters, exact: true, out taken))
        {
            await GrowAsync(clusters, cancellationToken).ConfigureAwait(false);
        }

        return taken;
    }

    /// <summary>Makes room for so many clusters at the end, unless there is by now.</summary>
    /// <exception cref="BlockException">NoSpace: the file cannot grow, or the format can address no more.</exception>
    public async ValueTask GrowAsync(long clusters, CancellationToken cancellationToken)
    {
        await _growing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            long next;
            lock (_lock)
            {
                next = _next;
            }

            long wanted = clusters << geometry.ClusterBits;
            if (_end - next >= wanted)
            {
                return;
            }

            if (wanted > maxEnd - next)
            {
                throw new BlockException(BlockErrorKind.NoSpace, "the image is full: its tables can address no more")
                {
                    Offset = next,
                    Expected = $"at most {maxEnd} bytes",
                };
            }

            wanted += next;
            long step = Math.Clamp(wanted / 8, MinGrowth, MaxGrowth);
            long target = wanted > maxEnd - step ? wanted : geometry.RoundUp(wanted + step);
            await ResizeAsync(target, wanted, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _growing.Release();
        }
    }

    /// <summary>Grows a file that ends within a cluster to that cluster's end, unless it is longer by now.</summary>
    public async ValueTask FillLastClusterAsync(CancellationToken cancellationToken)
    {
        await _growing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            long end = geometry.RoundUp(file.Length);
            if (end > file.Length)
            {
                await ResizeAsync(end, end, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            _growing.Release();
        }
    }

    /// <summary>Gives room back that no table names; it may hold anything.</summary>
    public void Return(long hostOffset, long clusters)
    {
        lock (_lock)
        {
            _free.Add(hostOffset >> geometry.ClusterBits, clusters);
        }
    }

    /// <summary>Cuts off what was not needed; nothing is under way any more.</summary>
    public async ValueTask TrimAsync()
    {
        long end = _free.TailStart(_next >> geometry.ClusterBits) << geometry.ClusterBits;
        if (_grew && end < file.Length)
        {
            await file.TryResizeAsync(end).ConfigureAwait(false);
        }
    }

    /// <summary>Grows; a host that is full may still have room for less.</summary>
    private async ValueTask ResizeAsync(long target, long least, CancellationToken cancellationToken)
    {
        bool resized;
        try
        {
            resized = await file.TryResizeAsync(target, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind is BlockErrorKind.NoSpace or BlockErrorKind.LimitExceeded && least < target)
        {
            target = least;
            resized = await file.TryResizeAsync(target, cancellationToken).ConfigureAwait(false);
        }

        if (!resized)
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the image's file cannot grow")
            {
                Hint = "The image needs a file that can grow; a device or a fixed window cannot.",
            };
        }

        lock (_lock)
        {
            _end = target;
            _grew = true;
        }
    }

    /// <summary>Neighbouring clusters.</summary>
    /// <param name="Host">Where the first begins, bytes.</param>
    /// <param name="Clusters">How many.</param>
    /// <param name="ReadsZero">They were never used.</param>
    internal readonly record struct Room(long Host, long Clusters, bool ReadsZero);
}
