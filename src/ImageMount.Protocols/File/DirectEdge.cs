using ImageMount.Core.Block;

namespace ImageMount.Protocols.Files;

/// <summary>
/// Where direct I/O ends and buffered I/O begins, in a file whose length is not a multiple of the direct block: its
/// last bytes cannot be addressed with O_DIRECT without changing its length.
/// </summary>
/// <remarks>
/// The kernel keeps direct and buffered I/O coherent only as long as they do not run at the same time on the same page:
/// a page that a buffered write makes dirty while a direct write changes its neighbours on disk is later written back
/// with the old neighbours. Hence the edge lies on a page boundary, not on a block boundary: every page belongs to one
/// side. When a resize moves the edge, pages change sides; that waits until the requests in flight have ended, and
/// holds back new ones until it is done. A resize between lengths that need no tail moves nothing and waits for nobody.
/// </remarks>
internal sealed class DirectEdge
{
    private readonly InFlight _inFlight = new();
    private readonly int _block;
    private readonly int _page;
    private TaskCompletionSource? _moving;
    private long _edge;

    /// <summary>The edge for a file.</summary>
    /// <param name="block">Direct block, bytes, a power of two.</param>
    /// <param name="length">Length of the file, bytes.</param>
    public DirectEdge(int block, long length)
    {
        _block = block;
        _page = Math.Max(block, Environment.SystemPageSize);
        _edge = EdgeOf(length);
    }

    /// <summary>The first byte that is not for direct I/O; <see cref="long.MaxValue"/> when all are.</summary>
    public long EdgeOf(long length) => (length & (_block - 1)) == 0 ? long.MaxValue : length & -(long)_page;

    /// <summary>Begins a request. False while the edge moves: await <see cref="WhenMovedAsync"/>, ask again.</summary>
    /// <param name="slot">For <see cref="Exit"/>.</param>
    /// <param name="edge">Valid until then.</param>
    public bool TryEnter(out int slot, out long edge)
    {
        slot = _inFlight.Enter();
        if (Volatile.Read(ref _moving) is null)
        {
            edge = Volatile.Read(ref _edge);
            return true;
        }

        _inFlight.Exit(slot);
        edge = 0;
        return false;
    }

    /// <summary>Ends a request.</summary>
    public void Exit(int slot) => _inFlight.Exit(slot);

    /// <summary>Completes when the edge is at rest.</summary>
    public Task WhenMovedAsync() => Volatile.Read(ref _moving)?.Task ?? Task.CompletedTask;

    /// <summary>True when a file that gets a new length needs a move.</summary>
    public bool MustMove(long newLength) => EdgeOf(newLength) != Volatile.Read(ref _edge);

    /// <summary>Completes when no request is in flight, and none will begin before <see cref="EndMove"/>. One at a
    /// time.</summary>
    public ValueTask BeginMoveAsync()
    {
        // A full fence between the flag and the count: whoever enters either sees the flag or is counted.
        Interlocked.Exchange(ref _moving, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        return _inFlight.DrainAsync();
    }

    /// <summary>Sets the edge by the length that the file has now, and lets requests in.</summary>
    public void EndMove(long length)
    {
        Volatile.Write(ref _edge, EdgeOf(length));
        Interlocked.Exchange(ref _moving, null)!.SetResult();
    }
}
