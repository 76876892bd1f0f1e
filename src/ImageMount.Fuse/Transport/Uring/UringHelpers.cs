using ImageMount.Fuse.Abi;

namespace ImageMount.Fuse.Transport.Uring;

/// <summary>
/// Threads for operations that take their time, so that a queue's own thread stays free for the others. They come when
/// there is nobody to take an operation, up to a bound, and go after some idle seconds.
/// </summary>
internal sealed class UringHelpers(int most, Action<UringPlace> process, Action<Exception> failed) : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);

    private readonly object _gate = new();
    private readonly Queue<UringPlace> _waiting = new();
    private int _threads;
    private int _idle;
    private bool _closed;

    /// <summary>Threads that exist now.</summary>
    public int Threads
    {
        get
        {
            lock (_gate)
            {
                return _threads;
            }
        }
    }

    /// <summary>Somebody will process it.</summary>
    public void Add(UringPlace place)
    {
        lock (_gate)
        {
            _waiting.Enqueue(place);
            if (_idle >= _waiting.Count || _threads == most)
            {
                Monitor.Pulse(_gate);
                return;
            }

            _threads++;
        }

        new Thread(Run, 512 << 10) { IsBackground = true, Name = "fuse-slow" }.Start();
    }

    /// <summary>Waits until the threads have ended. Nothing may be waiting.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _closed = true;
            Monitor.PulseAll(_gate);
            while (_threads > 0)
            {
                Monitor.Wait(_gate);
            }
        }
    }

    private void Run()
    {
        try
        {
            while (Take() is { } place)
            {
                process(place);
            }
        }
        catch (Exception e)
        {
            failed(e);
            lock (_gate)
            {
                Leave();
            }
        }
    }

    private UringPlace? Take()
    {
        lock (_gate)
        {
            while (true)
            {
                if (_waiting.TryDequeue(out UringPlace? place))
                {
                    return place;
                }

                _idle++;
                bool woken = !_closed && Monitor.Wait(_gate, s_patience);
                _idle--;
                if (_waiting.Count == 0 && (_closed || !woken))
                {
                    Leave();
                    return null;
                }
            }
        }
    }

    private void Leave()
    {
        _threads--;
        Monitor.PulseAll(_gate);
    }
}
