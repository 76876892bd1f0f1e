using ImageMount.Core.Block;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// Room at the end of a sparse extent's file. The file grows in steps, because growing is a system call; what was not
/// needed is cut off on close. New room reads as zeroes; room that was given back does not.
/// </summary>
/// <param name="node">The file.</param>
/// <param name="grainSize">Unit and alignment of room, bytes.</param>
internal sealed class VmdkFileSpace(BlockNode node, int grainSize)
{
    private const long GrowStep = 16 << 20;

    /// <summary>Entries are 32-bit sectors.</summary>
    private const long MaxEnd = (long)uint.MaxValue * VmdkLayout.SectorSize;

    private readonly Lock _lock = new();
    private readonly Stack<(long Host, long Size)> _returned = new();
    private readonly SemaphoreSlim _growing = new(1, 1);

    // Behind everything there is. The header's overhead is not asked: a lie there would make a huge file.
    private long _next = RoundUp(node.Length, grainSize);
    private long _end = node.Length;
    private bool _grew;

    /// <summary>End of the room that was given out.</summary>
    public long End
    {
        get
        {
            lock (_lock)
            {
                return _next;
            }
        }
    }

    /// <summary>Takes room. Not fresh means that it may hold anything.</summary>
    /// <exception cref="BlockException">NoSpace when the file cannot grow or the format can address no more.</exception>
    public async ValueTask<(long Host, bool IsFresh)> ReserveAsync(long bytes, CancellationToken cancellationToken)
    {
        long size = RoundUp(bytes, grainSize);
        if (TryTake(size, out long host, out bool fresh))
        {
            return (host, fresh);
        }

        await _growing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            while (!TryTake(size, out host, out fresh))
            {
                await GrowAsync(size, cancellationToken).ConfigureAwait(false);
            }

            return (host, fresh);
        }
        finally
        {
            _growing.Release();
        }
    }

    /// <summary>Gives room back that no table ever named.</summary>
    public void Return(long host, long bytes)
    {
        lock (_lock)
        {
            _returned.Push((host, RoundUp(bytes, grainSize)));
        }
    }

    /// <summary>Cuts off what was not needed; nothing is under way any more.</summary>
    public async ValueTask TrimAsync()
    {
        if (_grew && _next < node.Length)
        {
            await node.TryResizeAsync(_next).ConfigureAwait(false);
        }
    }

    private static long RoundUp(long value, long unit) => (value + unit - 1) / unit * unit;

    private bool TryTake(long size, out long host, out bool fresh)
    {
        lock (_lock)
        {
            if (_returned.TryPeek(out (long Host, long Size) old) && old.Size == size)
            {
                _returned.Pop();
                host = old.Host;
                fresh = false;
                return true;
            }

            host = _next;
            fresh = true;
            if (size > _end - _next)
            {
                return false;
            }

            _next += size;
            return true;
        }
    }

    private async ValueTask GrowAsync(long size, CancellationToken cancellationToken)
    {
        long end = _next + size;
        if (end > MaxEnd)
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the sparse extent is full: its tables can address no more")
            {
                Offset = _next,
                Expected = $"at most {MaxEnd} bytes",
            };
        }

        end = Math.Min(RoundUp(end, GrowStep), MaxEnd / grainSize * grainSize);
        if (!await node.TryResizeAsync(end, cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(BlockErrorKind.NoSpace, "the extent's file cannot grow")
            {
                Hint = "Sparse images need a file that can grow; a device or a fixed window cannot.",
            };
        }

        lock (_lock)
        {
            _end = end;
            _grew = true;
        }
    }
}
