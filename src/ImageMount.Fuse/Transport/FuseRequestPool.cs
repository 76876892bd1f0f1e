using ImageMount.Fuse.Protocol;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// The places for requests of one session, bounded in bytes. A worker keeps its place while operations complete
/// synchronously, so the pool is only asked when one suspends.
/// </summary>
internal sealed class FuseRequestPool : IDisposable
{
    // A place that carried a large payload keeps its pages while it is among the few that are used all the time; the
    // others give them back.
    private const int TrimAbove = 256 << 10;

    private readonly object _gate = new();
    private readonly Stack<FuseRequest> _idle = new();
    private readonly int _limit;
    private readonly int _payload;
    private readonly int _keepWarm;
    private volatile FuseRequest[] _all = [];
    private bool _closed;

    /// <param name="payload">Payload bytes a place holds, a multiple of the page size.</param>
    /// <param name="byteLimit">Upper bound of all buffers together.</param>
    /// <param name="workers">At least one place a worker, and one to spare, is always granted.</param>
    public FuseRequestPool(int payload, long byteLimit, int workers)
    {
        _payload = payload;
        _keepWarm = workers;
        _limit = (int)Math.Max(workers + 1, byteLimit / (payload + FuseBuffer.PayloadStart));
    }

    /// <summary>All places ever made.</summary>
    public IReadOnlyList<FuseRequest> All => _all;

    /// <summary>A free place; waits for one when the bound is reached. Null when the pool was closed.</summary>
    public FuseRequest? Take()
    {
        lock (_gate)
        {
            while (true)
            {
                if (_closed)
                {
                    return null;
                }
                if (_idle.TryPop(out FuseRequest? request))
                {
                    return request;
                }
                if (_all.Length < _limit)
                {
                    break;
                }
                Monitor.Wait(_gate);
            }
            var created = new FuseRequest(new FuseBuffer(_payload));
            _all = [.. _all, created];
            return created;
        }
    }

    /// <summary>The place is free again.</summary>
    public void Return(FuseRequest request)
    {
        lock (_gate)
        {
            if (!_closed && request.Touched > TrimAbove && _idle.Count >= _keepWarm)
            {
                request.Buffer.Trim();
                request.Touched = 0;
            }
            _idle.Push(request);
            Monitor.Pulse(_gate);
        }
    }

    /// <summary>Nobody gets a place any more; those who wait get null.</summary>
    public void Close()
    {
        lock (_gate)
        {
            _closed = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Frees the memory. Only when no request is in flight.</summary>
    public void Dispose()
    {
        Close();
        foreach (FuseRequest request in _all)
        {
            request.Dispose();
        }
    }
}
