using System.Diagnostics;
using ImageMount.Core.Block;

namespace ImageMount.Filters.RemoteCache;

/// <summary>
/// Reads all of a disk that is not in the cache yet, a few requests at a time. Before each it waits until no request of
/// the guest waits for the server, and when requests take long there are fewer: so a guest never has much before it.
/// </summary>
/// <remarks>
/// Steps are taken in order of groups, and within a group in an order that no protocol takes for somebody who reads on
/// (a step is at least 7 away from the 8 before it, which is as good as it gets): reading ahead of the filler would be
/// what the guest then has to wait for. Where anything but reading on is dear (<see cref="IRemoteFile.PrefersOrder"/>),
/// it reads on.
/// </remarks>
internal sealed class CacheFiller(RemoteCacheDevice device, bool inOrder, TimeProvider clock)
{
    private const int StepBits = 18;
    private const int GroupBits = 6;
    private const int Stride = 57;
    private const int Step = 1 << StepBits;
    private const int AtOnce = 8;

    /// <summary>A request that takes longer is one too many at once.</summary>
    private static readonly TimeSpan s_long = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan s_rest = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan s_firstPause = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_longestPause = TimeSpan.FromMinutes(1);

    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _lock = new();
    private readonly long _steps = (device.Length + Step - 1) >> StepBits;
    private Task _running = Task.CompletedTask;
    private FillState _state;
    private long _next;
    private long _done;
    private int _workers = inOrder ? 1 : AtOnce;
    private string? _trouble;

    /// <summary>Where it stands.</summary>
    public FillState State
    {
        get
        {
            lock (_lock)
            {
                return _state;
            }
        }
    }

    /// <summary>Bytes of the disk that are there by now.</summary>
    public long Done => Interlocked.Read(ref _done);

    /// <summary>Why it waits.</summary>
    public string? Trouble => Volatile.Read(ref _trouble);

    /// <summary>Begins, once.</summary>
    public void Start()
    {
        lock (_lock)
        {
            if (_state == FillState.Off && !_stop.IsCancellationRequested)
            {
                _state = FillState.Running;
                _running = Task.Run(RunAsync);
            }
        }
    }

    /// <summary>Ends it soon. Returns at once.</summary>
    public void Stop() => _stop.Cancel();

    /// <summary>Ends it; completes when it has.</summary>
    public async Task CloseAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _running.ConfigureAwait(false);
    }

    /// <summary>
    /// The step that is the n-th to be taken; -1: there is none, which groups that are not full have.
    /// </summary>
    internal static long StepAt(long n, long steps, bool inOrder)
    {
        long step = n;
        if (!inOrder)
        {
            const long Last = (1 << GroupBits) - 1;
            step = (n & ~Last) + (((n * Stride) + Last) & Last);
        }

        return step < steps ? step : -1;
    }

    private async Task RunAsync()
    {
        FillState end = FillState.Stopped;
        try
        {
            await Task.WhenAll(Enumerable.Range(0, AtOnce).Select(WorkAsync)).ConfigureAwait(false);
            end = Done == device.Length ? FillState.Complete : FillState.Stopped;
        }
        catch (OperationCanceledException)
        {
            end = FillState.Stopped;
        }
        finally
        {
            Set(end);
        }
    }

    private async Task WorkAsync(int number)
    {
        long all = (_steps + (1 << GroupBits) - 1) & -(1L << GroupBits);
        while (Interlocked.Read(ref _next) < all)
        {
            if (number >= Volatile.Read(ref _workers))
            {
                if (inOrder)
                {
                    return;
                }

                await Task.Delay(s_rest, clock, _stop.Token).ConfigureAwait(false);
                continue;
            }

            long step = StepAt(Interlocked.Increment(ref _next) - 1, _steps, inOrder);
            if (step < 0)
            {
                continue;
            }

            long offset = step << StepBits;
            int count = (int)Math.Min(Step, device.Length - offset);
            if (!await TryFillAsync(offset, count).ConfigureAwait(false))
            {
                return;
            }

            Interlocked.Add(ref _done, count);
        }
    }

    /// <summary>
    /// False: nothing is kept any more. A server that does not answer is asked again, with growing pauses.
    /// </summary>
    private async Task<bool> TryFillAsync(long offset, int count)
    {
        TimeSpan pause = s_firstPause;
        while (true)
        {
            _stop.Token.ThrowIfCancellationRequested();
            await device.WhenQuietAsync().WaitAsync(_stop.Token).ConfigureAwait(false);
            if (!device.HasRoom)
            {
                return false;
            }

            try
            {
                long began = Stopwatch.GetTimestamp();
                await device.FillAsync(offset, count, _stop.Token).ConfigureAwait(false);
                Pace(Stopwatch.GetElapsedTime(began));
                if (Interlocked.Exchange(ref _trouble, null) is not null)
                {
                    Set(FillState.Running);
                }

                return device.HasRoom;
            }
            catch (BlockException e)
            {
                _stop.Token.ThrowIfCancellationRequested();
                Volatile.Write(ref _trouble, e.Describe());
                Set(FillState.Waiting);
            }

            await Task.Delay(pause, clock, _stop.Token).ConfigureAwait(false);
            pause = pause * 2 < s_longestPause ? pause * 2 : s_longestPause;
        }
    }

    private void Pace(TimeSpan took)
    {
        int workers = Volatile.Read(ref _workers);
        int better = inOrder ? 1 : Math.Clamp(took > s_long ? workers - 1 : workers + 1, 1, AtOnce);
        Interlocked.CompareExchange(ref _workers, better, workers);
    }

    private void Set(FillState state)
    {
        lock (_lock)
        {
            _state = state;
        }
    }
}
