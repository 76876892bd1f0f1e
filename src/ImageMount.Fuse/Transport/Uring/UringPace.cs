using System.Diagnostics;
using ImageMount.Fuse.Abi;

namespace ImageMount.Fuse.Transport.Uring;

/// <summary>
/// Whether a queue's thread should process a request itself (fast: no hand-over) or leave it to a helper (it would keep
/// the requests behind it waiting). Operations that reach a disk by their nature go to helpers; the others while they are
/// found to wait for disks, and are tried again after a while.
/// </summary>
internal struct UringPace : IDisposable
{
    private const int Window = 32;
    private const int SlowInWindow = 8;
    private const int HandedOver = 512;
    private const int HandedOverAfterOne = 64;
    private static readonly long s_slowTicks = Stopwatch.Frequency / 10_000;
    private static readonly long s_verySlowTicks = Stopwatch.Frequency / 500;

    private AwakeTime? _awake;
    private long _awakeBefore;
    private int _toHandOver;
    private int _inWindow;
    private int _slow;
    private long _late;

    public UringPace()
    {
    }

    /// <summary>An operation of 20 µs or more: its reply goes out at once.</summary>
    public static long WorthASystemCall { get; } = Stopwatch.Frequency / 50_000;

    /// <summary>Asked once for every request.</summary>
    public bool MustHandOver(FuseOpcode opcode)
    {
        if (opcode is FuseOpcode.FUSE_FSYNC or FuseOpcode.FUSE_FALLOCATE or FuseOpcode.FUSE_SYNCFS
            or FuseOpcode.FUSE_SETATTR or FuseOpcode.FUSE_FLUSH or FuseOpcode.FUSE_DESTROY)
        {
            return true;
        }

        if (_toHandOver == 0)
        {
            return false;
        }

        _toHandOver--;
        return true;
    }

    /// <summary>An operation that the queue's thread did itself took so many ticks, for so many bytes.</summary>
    public void Took(long ticks, long bytes)
    {
        long late = ticks - s_slowTicks - (bytes * Stopwatch.Frequency / 1_000_000_000);
        if (late > 0)
        {
            _slow++;
            _late += late + s_slowTicks;
            if (late > s_verySlowTicks && WaitsForDisks())
            {
                Restart(HandedOverAfterOne);
                return;
            }
        }

        if (++_inWindow >= Window)
        {
            Restart(_slow >= SlowInWindow && WaitsForDisks() ? HandedOver : 0);
        }
    }

    public readonly void Dispose() => _awake?.Dispose();

    private void Restart(int toHandOver)
    {
        _toHandOver = toHandOver;
        _inWindow = _slow = 0;
        _late = 0;
    }

    // As in FuseWorker: a thread that computed, or got no processor, gains nothing by helpers.
    private bool WaitsForDisks()
    {
        _awake ??= new AwakeTime();
        long awake = _awake.Nanoseconds();
        long here = awake - _awakeBefore;
        _awakeBefore = awake;
        return here < _late * (1_000_000_000.0 / Stopwatch.Frequency) / 2;
    }
}
