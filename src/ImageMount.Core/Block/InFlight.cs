using System.Runtime.InteropServices;

namespace ImageMount.Core.Block;

/// <summary>
/// Counts operations under way and tells when all that began before a moment have ended, while new ones go on
/// beginning. Two counters take turns: operations enter the current one; a drain switches to the other and waits until
/// the first is empty.
/// </summary>
public sealed class InFlight
{
    private readonly SemaphoreSlim _oneDrain = new(1, 1);
    private Counters _counters;
    private TaskCompletionSource? _emptied;

    /// <summary>Begins an operation; the result goes to <see cref="Exit"/>.</summary>
    public int Enter()
    {
        while (true)
        {
            int slot = Volatile.Read(ref _counters.Current);
            Interlocked.Increment(ref slot == 0 ? ref _counters.First : ref _counters.Second);
            if (Volatile.Read(ref _counters.Current) == slot)
            {
                return slot;
            }

            Exit(slot); // A drain switched in between; it must not wait for us.
        }
    }

    /// <summary>Ends an operation.</summary>
    public void Exit(int slot)
    {
        long left = Interlocked.Decrement(ref slot == 0 ? ref _counters.First : ref _counters.Second);
        if (left == 0 && Volatile.Read(ref _counters.Current) != slot)
        {
            Volatile.Read(ref _emptied)?.TrySetResult();
        }
    }

    /// <summary>Completes when every operation that began before the call has ended.</summary>
    public async ValueTask DrainAsync()
    {
        await _oneDrain.WaitAsync().ConfigureAwait(false);
        try
        {
            int old = _counters.Current;
            Interlocked.Exchange(ref _counters.Current, 1 - old);
            while (Count(old) != 0)
            {
                var emptied = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                Interlocked.Exchange(ref _emptied, emptied);

                // Asked again: the last one may have left before it could see whom to wake. Waking may also come from
                // an Enter that took the old counter by mistake and left it, so the count decides, not the wake-up.
                if (Count(old) != 0)
                {
                    await emptied.Task.ConfigureAwait(false);
                }
            }
        }
        finally
        {
            _oneDrain.Release();
        }
    }

    private long Count(int slot) => Interlocked.Read(ref slot == 0 ? ref _counters.First : ref _counters.Second);

    /// <summary>Apart from each other by more than a cache line, because every request writes one of them.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 320)]
    private struct Counters
    {
        [FieldOffset(64)]
        public int Current;

        [FieldOffset(128)]
        public long First;

        [FieldOffset(256)]
        public long Second;
    }
}
