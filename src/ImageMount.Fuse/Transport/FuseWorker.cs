using System.Diagnostics;
using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Protocol;
using ImageMount.Interop;

namespace ImageMount.Fuse.Transport;

/// <summary>
/// One thread that reads requests, has them processed and answers those that complete at once. It waits in a blocking
/// channel of its own; while the next request tends to come soon it first looks into a second channel that does not
/// block (<see cref="SpinGauge"/>). It judges how it is doing every <see cref="Window"/> requests.
/// </summary>
/// <param name="transport">Who grows and shrinks.</param>
/// <param name="index">0 for the first worker.</param>
/// <param name="blocking">Where to sleep; owned.</param>
/// <param name="polling">Where to look without sleeping, or null; owned.</param>
internal sealed class FuseWorker(ThreadTransport transport, int index, FuseChannel blocking, FuseChannel? polling)
    : IDisposable
{
    // An operation is slow when it takes 100 µs more than its bytes need at 1 GB/s.
    private const int Window = 64;
    private const int SlowInWindow = 16;

    // A request is found waiting when read(2) takes no longer than its own work: nobody had to be woken.
    private const int EagerInWindow = 48;
    private static readonly long s_slowTicks = Stopwatch.Frequency / 10_000;
    private static readonly long s_eagerTicks = Stopwatch.Frequency / 400_000;

    private FuseChannel? _polling = polling;
    private SpinGauge _spin = new();
    private uint _served;
    private bool _busy;
    private uint _servedAtLastLook;
    private int _inWindow;
    private int _slow;
    private int _eager;
    private long _late;
    private AwakeTime? _awake;
    private long _awakeBefore;
    private long _answered;

    public int Index => index;

    public FuseChannel Blocking => blocking;

    /// <summary>Requests taken so far; wraps around.</summary>
    public uint Served => Volatile.Read(ref _served);

    /// <summary>Gives the worker a channel to look into; before any that matters comes.</summary>
    public void AddPolling(FuseChannel channel) => Volatile.Write(ref _polling, channel);

    /// <summary>Busy with the operation it was busy with the last time. Called by one thread at a time.</summary>
    public bool IsStuckSinceLastLook()
    {
        uint served = Served;
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

    public void Dispose()
    {
        blocking.Dispose();
        _polling?.Dispose();
        _awake?.Dispose();
    }

    private void Serve()
    {
        FuseRequest? request = null;
        while (true)
        {
            request ??= transport.Pool.Take();
            if (request is null)
            {
                return;
            }
            int length = Receive(request, out FuseChannel channel);
            if (length >= 0)
            {
                if (!Process(request, channel, length))
                {
                    request = null;
                }
                if (index >= transport.Base && transport.MustShrink())
                {
                    transport.Park();
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
                    transport.Pool.Return(request);
                    return;
                default:
                    throw new ErrnoException("read", "/dev/fuse", -length);
            }
        }
    }

    private int Receive(FuseRequest request, out FuseChannel channel)
    {
        int length;
        if (_spin.IsWorthIt && Volatile.Read(ref _polling) is { } look)
        {
            long until = Stopwatch.GetTimestamp() + SpinGauge.Budget;
            do
            {
                length = look.Receive(request);
                if (length != -Errno.EAGAIN)
                {
                    _spin.Hit();
                    channel = look;
                    return length;
                }
            }
            while (Stopwatch.GetTimestamp() < until);
            _spin.Miss();
        }
        channel = blocking;
        length = blocking.Receive(request);
        _spin.Slept(Stopwatch.GetTimestamp() - _answered);
        return length;
    }

    private bool Process(FuseRequest request, FuseChannel channel, int length)
    {
        long start = Stopwatch.GetTimestamp();
        bool eager = start - _answered <= s_eagerTicks + length * Stopwatch.Frequency / 2_000_000_000;
        if (TakesItsTime(request, length))
        {
            transport.GrowBeside();
        }
        Volatile.Write(ref _busy, true);
        bool completed = transport.Server.Process(request, channel, FuseBuffer.RequestStart, length);
        Volatile.Write(ref _busy, false);
        Volatile.Write(ref _served, _served + 1);
        _answered = Stopwatch.GetTimestamp();
        // Once it has suspended, the request belongs to others.
        long bytes = completed ? length + request.Expected : 0;
        long late = _answered - start - s_slowTicks - (bytes * Stopwatch.Frequency / 1_000_000_000);
        Judge(late, eager);
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

    private void Judge(long late, bool eager)
    {
        if (late > 0)
        {
            _slow++;
            _late += late + s_slowTicks;
        }
        _eager += eager ? 1 : 0;
        if (++_inWindow < Window)
        {
            return;
        }
        bool isSlow = _slow >= SlowInWindow && WaitsForDisks();
        bool isEager = _eager >= EagerInWindow;
        _inWindow = _slow = _eager = 0;
        _late = 0;
        if (isSlow)
        {
            transport.Grow();
        }
        else if (isEager)
        {
            transport.AskForHelp();
        }
    }

    // Slow operations are a reason for more workers only if the thread slept in them: not while it computes (inflating a
    // cluster takes 200 µs; with 8 workers one reader's requests went round 8 cold stacks), and not for want of a
    // processor. The counter is read in bad windows only; the first of several gives too large a difference, and so too
    // little growth.
    private bool WaitsForDisks()
    {
        _awake ??= new AwakeTime();
        long awake = _awake.Nanoseconds();
        long here = awake - _awakeBefore;
        _awakeBefore = awake;
        return here < _late * (1_000_000_000.0 / Stopwatch.Frequency) / 2;
    }
}
