using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Mapped;

/// <summary>How far a unit is.</summary>
internal enum DecodedUnitState
{
    /// <summary>Announced; nobody decodes it yet.</summary>
    Queued,

    /// <summary>Somebody decodes it.</summary>
    Loading,

    /// <summary>Decoded.</summary>
    Ready,

    /// <summary>Will not be decoded.</summary>
    Failed,
}

/// <summary>A unit, decoded or on the way there.</summary>
internal sealed class DecodedUnit(object owner, in CompressedUnit unit, DecodedUnitState state)
{
    private int _state = (int)state;
    private int _users = 2; // The cache and whoever made it.
    private int _removed;
    private bool _recent;
    private BufferLease? _decoded;
    private int _filled;
    private TaskCompletionSource? _finished;

    public object Owner { get; } = owner;

    public CompressedUnit Unit { get; } = unit;

    public DecodedUnitState State => (DecodedUnitState)Volatile.Read(ref _state);

    public bool IsRemoved => Volatile.Read(ref _removed) != 0;

    public bool TrySetRemoved() => Interlocked.Exchange(ref _removed, 1) == 0;

    /// <summary>Becomes a user, unless the last one has left.</summary>
    public bool TryEnter()
    {
        int users = Volatile.Read(ref _users);
        while (users > 0)
        {
            int seen = Interlocked.CompareExchange(ref _users, users + 1, users);
            if (seen == users)
            {
                return true;
            }

            users = seen;
        }

        return false;
    }

    /// <summary>Stops being a user; true for the last one.</summary>
    public bool Leave()
    {
        if (Interlocked.Decrement(ref _users) != 0)
        {
            return false;
        }

        _decoded?.Dispose();
        return true;
    }

    /// <summary>Takes on the decoding of an announced unit; true for one caller only.</summary>
    public bool TryStart() =>
        Interlocked.CompareExchange(ref _state, (int)DecodedUnitState.Loading, (int)DecodedUnitState.Queued)
            == (int)DecodedUnitState.Queued;

    /// <summary>Whether the unit's first so many bytes are here; of one that is ready.</summary>
    public bool Has(int bytes) => bytes <= _filled;

    /// <summary>Tells the outcome; null for a failure.</summary>
    public void Finish(BufferLease? decoded, int filled)
    {
        _decoded = decoded;
        _filled = filled;
        Interlocked.Exchange(ref _state, (int)(decoded is null ? DecodedUnitState.Failed : DecodedUnitState.Ready));
        Volatile.Read(ref _finished)?.TrySetResult();
    }

    /// <summary>Waits for the outcome, which <see cref="State"/> then tells.</summary>
    public Task WaitAsync(CancellationToken cancellationToken)
    {
        TaskCompletionSource? finished = Volatile.Read(ref _finished);
        if (finished is null)
        {
            var fresh = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            finished = Interlocked.CompareExchange(ref _finished, fresh, null) ?? fresh;
        }

        // Asked after the source is visible: Finish sets the state first and looks for the source then.
        if (State is DecodedUnitState.Ready or DecodedUnitState.Failed)
        {
            return Task.CompletedTask;
        }

        return finished.Task.WaitAsync(cancellationToken);
    }

    public void CopyTo(int offsetInUnit, Span<byte> destination) =>
        _decoded!.Value.Span.Slice(offsetInUnit, destination.Length).CopyTo(destination);

    /// <summary>Notes that the unit was wanted again: it stays for another round of the clock.</summary>
    public void Touch(int offsetInUnit, int count) =>

        // Who reads a unit to its end is likely to be reading on, not to come back: it may go first.
        _recent = offsetInUnit + count != Unit.Length;

    public bool TakeSecondChance()
    {
        bool recent = _recent;
        _recent = false;
        return recent;
    }
}
