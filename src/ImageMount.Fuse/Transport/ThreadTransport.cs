using System.Diagnostics;
using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Protocol;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// Workers: dedicated threads, each blocking in read(2) on its own clone of /dev/fuse. An operation that completes
/// synchronously costs read, call, write, on one thread.
/// </summary>
/// <remarks>
/// How many: the kernel wakes idle readers in turn, the one that slept longest first, so every worker that is not needed
/// makes fast operations slower (measured on 2 cores, 4 KiB random reads: one job 75–84 k a second with 1 worker, 14–52 k
/// with 2; four jobs 152–180 k with 2 workers, 108–150 k with 4; on another host with the same processors four jobs 57 k
/// with 1 worker, 49 k with 2). So there is one to begin with. Up to one a core are tried while the next request is there
/// already when the last was answered, and stay if that helped (<see cref="WorkerTrial"/>); more than that while
/// operations take longer than copying their bytes can explain, or all workers are stuck. Who joined parks again when he
/// is not needed any more.
/// </remarks>
internal sealed class ThreadTransport : IFuseTransport
{
    private static readonly TimeSpan s_period = TimeSpan.FromMilliseconds(200);
    private const int PeriodsBeforeShrinking = 3;

    private readonly FuseSessionOptions _options;
    private readonly int _most;
    private readonly Lock _growth = new();
    private readonly List<FuseWorker> _workers = [];
    private readonly SemaphoreSlim _unpark = new(0);
    private readonly Timer _watch;
    private readonly WorkerTrial _trial = new();
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _parked;
    private int _running;
    private int _shrink;
    private uint _servedBefore;
    private bool _helpWanted;
    private bool _isDisturbed;
    private int _calmPeriods;
    private int _earned;
    private bool _ending;

    /// <param name="device">/dev/fuse, mounted; owned from here on.</param>
    /// <param name="options">Worker count, memory limit, warnings.</param>
    /// <param name="payload">Payload bytes of a buffer.</param>
    public ThreadTransport(SafeFileHandle device, FuseSessionOptions options, int payload)
    {
        _options = options;
        Base = options.Workers > 0 ? Math.Min(options.Workers, 64) : 1;
        Cores = options.Workers > 0 ? Base : Math.Clamp(Environment.ProcessorCount, 2, 8);
        _most = options.Workers > 0 ? Base : Math.Max(8, 2 * Cores);
        Pool = new FuseRequestPool(payload, options.BufferMemoryLimit, _most);
        _workers.Add(new FuseWorker(this, 0, new FuseChannel(device, Pool), null));
        _watch = new Timer(_ => LookAround());
    }

    public Task Completion => _completion.Task;

    public IReadOnlyList<FuseRequest> Requests => Pool.All;

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

    public FuseServer Server { get; private set; } = null!;

    /// <summary>Where places for requests come from.</summary>
    public FuseRequestPool Pool { get; }

    /// <summary>Workers that always stay.</summary>
    public int Base { get; }

    /// <summary>Workers that fast operations may have.</summary>
    public int Cores { get; }

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
        for (int i = 1; i < Base; i++)
        {
            Grow();
        }
        if (MakePolling() is { } polling)
        {
            _workers[0].AddPolling(polling);
        }
        if (_most > Base)
        {
            _watch.Change(s_period, s_period);
        }
    }

    public unsafe int Notify(ReadOnlySpan<byte> message)
    {
        fixed (byte* start = message)
        {
            // SAFETY: pinned for the duration of the call; the caller keeps the session's descriptor open.
            nint written = SysWrite.Write(_workers[0].Blocking.Descriptor, start, (nuint)message.Length);
            return written < 0 ? (int)written : 0;
        }
    }

    public void Dispose()
    {
        _watch.Dispose();
        foreach (FuseWorker worker in _workers)
        {
            worker.Dispose();
        }
        Pool.Dispose();
        _unpark.Dispose();
    }

    /// <summary>One more reader: a parked one, or a new one while there are fewer than the most. Operations are
    /// slow.</summary>
    public void Grow()
    {
        lock (_growth)
        {
            _isDisturbed = true;
            GrowLocked();
        }
    }

    /// <summary>A second reader, so that others are served while the only one is away on something that takes its
    /// time.</summary>
    public void GrowBeside()
    {
        if (_most > 1 && ActiveWorkers < 2)
        {
            Grow();
        }
    }

    /// <summary>A worker always finds the next request waiting.</summary>
    public void AskForHelp() => Volatile.Write(ref _helpWanted, true);

    /// <summary>True for one caller after a trial that did not help.</summary>
    public bool MustShrink() =>
        Volatile.Read(ref _shrink) > 0 && Interlocked.CompareExchange(ref _shrink, 0, 1) == 1;

    /// <summary>Sleeps until there is use for one more. Never called by one of the first.</summary>
    public void Park()
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

    private void GrowLocked()
    {
        if (_ending)
        {
            return;
        }
        Volatile.Write(ref _shrink, 0);
        if (_parked > 0)
        {
            _parked--;
            _unpark.Release();
        }
        else if (_workers.Count < _most)
        {
            // Who may not open /dev/fuse (fusermount3 did it for us) shares the first descriptor.
            var blocking = new FuseChannel(CloneDevice(nonBlocking: false) ?? _workers[0].Blocking.Device, Pool);
            var worker = new FuseWorker(this, _workers.Count, blocking, MakePolling());
            _workers.Add(worker);
            Launch(worker);
        }
    }

    private void LookAround()
    {
        lock (_growth)
        {
            if (_ending)
            {
                return;
            }
            int stuck = 0;
            uint served = 0;
            foreach (FuseWorker worker in _workers)
            {
                stuck += worker.IsStuckSinceLastLook() ? 1 : 0;
                served += worker.Served;
            }
            int active = _running - _parked;
            uint rate = served - _servedBefore;
            bool isBusy = Volatile.Read(ref _helpWanted);
            bool helpWanted = isBusy && active < Cores;
            bool isDisturbed = _isDisturbed;
            _servedBefore = served;
            _helpWanted = _isDisturbed = false;
            if (stuck >= active)
            {
                GrowLocked();
                isDisturbed = true;
            }
            // An extra reader that nobody needs is woken in vain by every request. Who joined for a slow operation goes
            // when there are no more of them; who was found to help stays while there is much to do.
            _earned = isBusy ? _earned : 0;
            _calmPeriods = isDisturbed ? 0 : _calmPeriods + 1;
            if (_calmPeriods >= PeriodsBeforeShrinking && active > Base + _earned)
            {
                _calmPeriods = 0;
                Volatile.Write(ref _shrink, 1);
                isDisturbed = true;
            }
            switch (_trial.Next(rate, helpWanted, isDisturbed))
            {
                case WorkerTrial.Verdict.Grow:
                    GrowLocked();
                    _earned++;
                    break;
                case WorkerTrial.Verdict.Shrink:
                    _earned = Math.Max(0, _earned - 1);
                    Volatile.Write(ref _shrink, 1);
                    break;
            }
        }
    }

    private void Launch(FuseWorker worker)
    {
        _running++;
        // Small stacks: the path below is shallow, and file systems that recurse are not invited.
        new Thread(worker.Run, 512 << 10) { IsBackground = true, Name = $"fuse{worker.Index}" }.Start();
    }

    // With one processor there is nobody whom looking would save a wake-up.
    private FuseChannel? MakePolling() =>
        Environment.ProcessorCount > 1 && CloneDevice(nonBlocking: true) is { } clone
            ? new FuseChannel(clone, Pool) : null;

    private SafeFileHandle? CloneDevice(bool nonBlocking)
    {
        int flags = SysOpen.O_RDWR | (nonBlocking ? SysOpen.O_NONBLOCK : 0);
        SafeFileHandle? clone = SysOpen.TryOpen("/dev/fuse", flags, out _);
        if (clone is null)
        {
            return null;
        }
        if (FuseDeviceControl.Clone((int)clone.DangerousGetHandle(), _workers[0].Blocking.Descriptor) < 0)
        {
            clone.Dispose();
            return null;
        }
        return clone;
    }

    /// <summary>The first worker to see the end closes the pool and wakes the parked ones, so that all workers
    /// end.</summary>
    public void Ended(Exception? failure)
    {
        Pool.Close();
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
}
