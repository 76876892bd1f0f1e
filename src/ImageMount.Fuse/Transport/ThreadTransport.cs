using System.Diagnostics;
using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Protocol;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// Workers: dedicated threads, each blocking in read(2) on its own clone of /dev/fuse. A clone has a queue of its own
/// for requests being processed, so workers do not meet on its lock; that is also why a reply must go out through the
/// descriptor its request came in by. An operation that completes synchronously costs read, call, write, on one thread.
/// </summary>
/// <remarks>
/// How many: the kernel wakes idle readers in turn, the one that slept longest first, so every worker that is not needed
/// makes fast operations slower (measured on 2 cores, 4 KiB random reads: one job 75–84 k a second with 1 worker, 14–52 k
/// with 2; four jobs 152–180 k with 2 workers, 108–150 k with 4). So there is one to begin with. Up to one a core join
/// while the next request is there already when the last was answered; more than that while operations take longer than
/// copying their bytes can explain, or all workers are stuck. Who joined parks again when he is not needed any more.
/// </remarks>
internal sealed class ThreadTransport : IFuseTransport
{
    private static readonly TimeSpan s_stallPeriod = TimeSpan.FromMilliseconds(250);

    private readonly FuseRequestPool _pool;
    private readonly FuseSessionOptions _options;
    private readonly int _base;
    private readonly int _cores;
    private readonly int _most;
    private readonly Lock _growth = new();
    private readonly List<Worker> _workers = [];
    private readonly SemaphoreSlim _unpark = new(0);
    private readonly Timer _stallWatch;
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _parked;
    private int _running;
    private bool _ending;

    /// <param name="device">/dev/fuse, mounted; owned from here on.</param>
    /// <param name="options">Worker count, memory limit, warnings.</param>
    /// <param name="payload">Payload bytes of a buffer.</param>
    public ThreadTransport(SafeFileHandle device, FuseSessionOptions options, int payload)
    {
        _options = options;
        _base = options.Workers > 0 ? Math.Min(options.Workers, 64) : 1;
        _cores = options.Workers > 0 ? _base : Math.Clamp(Environment.ProcessorCount, 2, 8);
        _most = options.Workers > 0 ? _base : Math.Max(8, 2 * _cores);
        _pool = new FuseRequestPool(payload, options.BufferMemoryLimit, _most);
        _workers.Add(new Worker(this, 0, device));
        _stallWatch = new Timer(_ => LookForStall());
    }

    public Task Completion => _completion.Task;

    public IReadOnlyList<FuseRequest> Requests => _pool.All;

    /// <summary>Workers that read requests now.</summary>
    public int ActiveWorkers
    {
        get
        {
            lock (_growth)
            {
                return _running - _parked;
            }
        }
    }

    private FuseServer Server { get; set; } = null!;

    public void Start(FuseServer server)
    {
        Server = server;
        lock (_growth)
        {
            Launch(_workers[0]);
        }
    }

    public void Ready()
    {
        for (int i = 1; i < _base; i++)
        {
            Grow();
        }
        if (_most > _base)
        {
            _stallWatch.Change(s_stallPeriod, s_stallPeriod);
        }
    }

    public unsafe int Notify(ReadOnlySpan<byte> message)
    {
        fixed (byte* start = message)
        {
            // SAFETY: pinned for the duration of the call; the caller keeps the session's descriptor open.
            nint written = SysWrite.Write(_workers[0].Descriptor, start, (nuint)message.Length);
            return written < 0 ? (int)written : 0;
        }
    }

    public void Dispose()
    {
        _stallWatch.Dispose();
        foreach (Worker worker in _workers)
        {
            worker.Close();
        }
        _pool.Dispose();
        _unpark.Dispose();
    }

    // One more reader: a parked one, or a new one while there are fewer than the most.
    private void Grow()
    {
        lock (_growth)
        {
            if (_ending)
            {
                return;
            }
            if (_parked > 0)
            {
                _parked--;
                _unpark.Release();
            }
            else if (_workers.Count < _most)
            {
                // Who may not open /dev/fuse (fusermount3 did it for us) shares the first descriptor.
                var worker = new Worker(this, _workers.Count, CloneDevice() ?? _workers[0].Device);
                _workers.Add(worker);
                Launch(worker);
            }
        }
    }

    // A second reader, so that others are served while the only one is away on something that takes its time.
    private void GrowBeside()
    {
        if (_most > 1 && ActiveWorkers < 2)
        {
            Grow();
        }
    }

    // As long as there are cores, whoever always finds the next request waiting gets help.
    private void GrowToCores()
    {
        if (ActiveWorkers < _cores)
        {
            Grow();
        }
    }

    // Not before requests have been fast for a while, and never one of the first.
    private void Park()
    {
        lock (_growth)
        {
            if (_ending)
            {
                return;
            }
            _parked++;
        }
        _unpark.Wait();
    }

    private void LookForStall()
    {
        lock (_growth)
        {
            int stuck = 0;
            foreach (Worker worker in _workers)
            {
                stuck += worker.IsStuckSinceLastLook() ? 1 : 0;
            }
            if (_ending || stuck < _running - _parked)
            {
                return;
            }
        }
        Grow();
    }

    private void Launch(Worker worker)
    {
        _running++;
        // Small stacks: the path below is shallow, and file systems that recurse are not invited.
        new Thread(worker.Run, 512 << 10) { IsBackground = true, Name = $"fuse{worker.Index}" }.Start();
    }

    private SafeFileHandle? CloneDevice()
    {
        SafeFileHandle? clone = SysOpen.TryOpen("/dev/fuse", SysOpen.O_RDWR, out _);
        if (clone is null)
        {
            return null;
        }
        if (FuseDeviceControl.Clone((int)clone.DangerousGetHandle(), _workers[0].Descriptor) < 0)
        {
            clone.Dispose();
            return null;
        }
        return clone;
    }

    // The first worker to see the end closes the pool and wakes the parked ones, so that all workers end.
    private void Ended(Exception? failure)
    {
        _pool.Close();
        if (failure is not null)
        {
            _completion.TrySetException(failure);
        }
        bool last;
        lock (_growth)
        {
            _ending = true;
            if (_parked > 0)
            {
                _unpark.Release(_parked);
                _parked = 0;
            }
            last = --_running == 0;
        }
        if (last)
        {
            _completion.TrySetResult();
        }
    }

    private sealed class Worker(ThreadTransport transport, int index, SafeFileHandle device) : IFuseReplySink
    {
        // An operation is slow when it takes 100 µs more than its bytes need at 1 GB/s.
        private const int Window = 64;
        private const int SlowInWindow = 16;
        private const int IdleWindowsBeforeParking = 16;

        // A request is found waiting when read(2) takes no longer than its own work: nobody had to be woken.
        private const int EagerInWindow = 48;
        private static readonly long s_slowTicks = Stopwatch.Frequency / 10_000;
        private static readonly long s_eagerTicks = Stopwatch.Frequency / 400_000;

        private uint _served;
        private bool _busy;
        private uint _servedAtLastLook;
        private int _inWindow;
        private int _slow;
        private int _eager;
        private int _idleWindows;
        private long _answered;

        public int Index => index;

        public SafeFileHandle Device => device;

        /// <summary>Open as long as the transport is not disposed, which is after the last reply.</summary>
        public int Descriptor { get; } = (int)device.DangerousGetHandle();

        /// <summary>Busy with the operation it was busy with the last time. Called by one thread at a time.</summary>
        public bool IsStuckSinceLastLook()
        {
            uint served = Volatile.Read(ref _served);
            bool stuck = Volatile.Read(ref _busy) && served == _servedAtLastLook;
            _servedAtLastLook = served;
            return stuck;
        }

        public void Run()
        {
            Exception? failure = null;
            try
            {
                Serve();
            }
            catch (Exception e)
            {
                failure = e;
            }
            transport.Ended(failure);
        }

        private void Serve()
        {
            FuseRequest? request = null;
            while (true)
            {
                request ??= transport._pool.Take();
                if (request is null)
                {
                    return;
                }
                int length = Receive(request);
                if (length >= 0)
                {
                    if (!Process(request, length))
                    {
                        request = null;
                    }
                    continue;
                }
                switch (-length)
                {
                    case Errno.ENOENT: // the request was interrupted before we got it
                    case Errno.EAGAIN:
                        continue;
                    case Errno.ENODEV: // unmounted
                    case Errno.ECONNABORTED:
                        transport._pool.Return(request);
                        return;
                    default:
                        throw new ErrnoException("read", "/dev/fuse", -length);
                }
            }
        }

        private bool Process(FuseRequest request, int length)
        {
            long start = Stopwatch.GetTimestamp();
            bool eager = start - _answered <= s_eagerTicks + length * Stopwatch.Frequency / 2_000_000_000;
            if (TakesItsTime(request, length))
            {
                transport.GrowBeside();
            }
            Volatile.Write(ref _busy, true);
            bool completed = transport.Server.Process(request, this, FuseBuffer.RequestStart, length);
            Volatile.Write(ref _busy, false);
            Volatile.Write(ref _served, _served + 1);
            _answered = Stopwatch.GetTimestamp();
            long elapsed = _answered - start;
            // Once it has suspended, the request belongs to others.
            long bytes = completed ? length + request.Expected : 0;
            Judge(elapsed > s_slowTicks + bytes * Stopwatch.Frequency / 1_000_000_000, eager);
            return completed;
        }

        // Operations that reach the disk by their nature, as far as their number tells.
        private static unsafe bool TakesItsTime(FuseRequest request, int length)
        {
            if (length < 2 * sizeof(uint))
            {
                return false;
            }
            // SAFETY: length bytes of the request are in the buffer from RequestStart; the opcode is the second word.
            uint opcode = *(uint*)request.Buffer.At(FuseBuffer.RequestStart + sizeof(uint));
            return (FuseOpcode)opcode is FuseOpcode.FUSE_FSYNC or FuseOpcode.FUSE_FALLOCATE or FuseOpcode.FUSE_SYNCFS
                or FuseOpcode.FUSE_SETATTR or FuseOpcode.FUSE_FLUSH;
        }

        private void Judge(bool slow, bool eager)
        {
            _slow += slow ? 1 : 0;
            _eager += eager ? 1 : 0;
            if (++_inWindow < Window)
            {
                return;
            }
            (int slows, int eagers) = (_slow, _eager);
            _inWindow = _slow = _eager = 0;
            _idleWindows = slows == 0 && (eagers < EagerInWindow || index >= transport._cores) ? _idleWindows + 1 : 0;
            if (slows >= SlowInWindow)
            {
                transport.Grow();
            }
            else if (index >= transport._base && _idleWindows >= IdleWindowsBeforeParking)
            {
                _idleWindows = 0;
                transport.Park();
            }
            else if (eagers >= EagerInWindow)
            {
                transport.GrowToCores();
            }
        }

        public unsafe int Send(FuseRequest request, int start, int length)
        {
            // SAFETY: start and length lie inside the buffer, which lives as long as its request.
            nint written = SysWrite.Write(Descriptor, request.Buffer.At(start), (nuint)length);
            return written < 0 ? (int)written : 0;
        }

        public void Recycle(FuseRequest request) => transport._pool.Return(request);

        public void Close() => device.Dispose();

        private unsafe int Receive(FuseRequest request)
        {
            // SAFETY: the buffer has Length bytes from offset 0, and nothing else is in it now.
            return (int)SysRead.Read(
                Descriptor, request.Buffer.At(FuseBuffer.RequestStart),
                (nuint)(request.Buffer.Length - FuseBuffer.RequestStart));
        }
    }
}
