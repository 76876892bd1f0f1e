using System.Collections.Concurrent;
using System.Threading.Tasks.Sources;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Nbd;

/// <summary>How a request ended.</summary>
internal enum NbdOutcomeKind
{
    /// <summary>Done.</summary>
    Ok,

    /// <summary>The server refused; <see cref="NbdOutcome.Error"/> says why.</summary>
    Refused,

    /// <summary>The connection ended first; whether it was done is not known.</summary>
    Lost,

    /// <summary>The server is about to end, and did not do it.</summary>
    ShuttingDown,

    /// <summary>The caller has cancelled.</summary>
    Cancelled,
}

/// <summary>How a request ended, and why.</summary>
/// <param name="Kind">How.</param>
/// <param name="Error">The server's error number.</param>
/// <param name="Message">The server's words, or null.</param>
internal readonly record struct NbdOutcome(NbdOutcomeKind Kind, uint Error = 0, string? Message = null) : IRemoteReply
{
    /// <summary>True when it was done.</summary>
    public bool IsOk => Kind == NbdOutcomeKind.Ok;

    /// <inheritdoc/>
    public ReplyOutcome Outcome => Kind switch
    {
        NbdOutcomeKind.Ok => ReplyOutcome.Ok,
        NbdOutcomeKind.Refused => ReplyOutcome.Refused,
        NbdOutcomeKind.Cancelled => ReplyOutcome.Cancelled,
        _ => ReplyOutcome.Lost,
    };
}

/// <summary>A range of block status.</summary>
/// <param name="Length">Bytes.</param>
/// <param name="Flags">Meaning by context.</param>
internal readonly record struct NbdStatus(long Length, ulong Flags);

/// <summary>
/// One request on its way. It has two owners: the caller, who awaits <see cref="Task"/>, and the connection, from queueing
/// until both the last byte was sent and the last chunk of the answer has come. It is recycled when both have let go.
/// </summary>
/// <remarks>
/// The caller's memory is in use while the payload is being sent, and while the receiver has it pinned. The result is set
/// only when neither can be the case any more: a server that answers before it has the payload must not make us send from
/// memory that was given back. A cancelled read is detached at once, unless pinned at that moment; its answer then goes
/// nowhere. Other requests are not cancelled once queued, because the server carries them out all the same, and what
/// comes after must know when that was.
/// </remarks>
internal sealed class NbdRequest : IPipelinedRequest, IValueTaskSource<NbdOutcome>
{
    private const int MaxPooled = 256;
    private static readonly ConcurrentBag<NbdRequest> Pool = [];
    private static int _pooled;

    private readonly Lock _lock = new();
    private ManualResetValueTaskSourceCore<NbdOutcome> _core = new() { RunContinuationsAsynchronously = true };
    private CancellationTokenRegistration _registration;
    private NbdOutcome _outcome;
    private bool _isPinned;
    private bool _isCancelled;
    private bool _isCompleted;
    private int _parts;
    private int _owners;

    /// <summary>What to do.</summary>
    public NbdCommand Command { get; private set; }

    /// <summary>How.</summary>
    public NbdCommandFlags Flags { get; private set; }

    /// <summary>First byte.</summary>
    public long Offset { get; private set; }

    /// <summary>Bytes.</summary>
    public long Length { get; private set; }

    /// <summary>Where the bytes of a read go.</summary>
    public Memory<byte> Target { get; private set; }

    /// <summary>Payload of a write.</summary>
    public ReadOnlyMemory<byte> Payload { get; private set; }

    /// <summary>Names it in the connection.</summary>
    public ulong Cookie { get; set; }

    /// <summary>What a read has got so far.</summary>
    public NbdCoverage Coverage { get; } = new();

    /// <summary>What a block status has got so far.</summary>
    public List<NbdStatus> Status { get; } = [];

    /// <summary>The first error of an answer that is not finished; Ok for none.</summary>
    public NbdOutcome Failure { get; set; }

    /// <summary>The result.</summary>
    public ValueTask<NbdOutcome> Task => new(this, _core.Version);

    /// <summary>A request with both owners.</summary>
    public static NbdRequest Rent(
        NbdCommand command, NbdCommandFlags flags, long offset, long length, Memory<byte> target,
        ReadOnlyMemory<byte> payload)
    {
        if (Pool.TryTake(out NbdRequest? request))
        {
            Interlocked.Decrement(ref _pooled);
        }
        else
        {
            request = new NbdRequest();
        }

        request.Command = command;
        request.Flags = flags;
        request.Offset = offset;
        request.Length = length;
        request.Target = target;
        request.Payload = payload;
        request._parts = 2;
        request._owners = 2;
        return request;
    }

    /// <summary>Has the token detach the request from its buffer.</summary>
    public void CancelWith(CancellationToken cancellationToken) =>
        _registration = cancellationToken.UnsafeRegister(static state => ((NbdRequest)state!).Cancel(), this);

    /// <summary>
    /// Allows the receiver to write to <see cref="Target"/> until <see cref="Unpin"/>; false: it is not ours any more.
    /// </summary>
    public bool TryPin()
    {
        lock (_lock)
        {
            return _isPinned = !_isCancelled;
        }
    }

    /// <summary>The receiver does not touch the target now.</summary>
    public void Unpin()
    {
        lock (_lock)
        {
            _isPinned = false;
            if (_isCancelled)
            {
                Complete(new NbdOutcome(NbdOutcomeKind.Cancelled));
            }
        }
    }

    /// <summary>The last byte was sent, or never will be.</summary>
    public void Sent() => FinishPart();

    /// <summary>The answer is complete, or never will be.</summary>
    public void Answered(NbdOutcome outcome)
    {
        _outcome = outcome;
        FinishPart();
    }

    /// <inheritdoc/>
    public void Lose() => Answered(new NbdOutcome(NbdOutcomeKind.Lost));

    /// <inheritdoc/>
    public NbdOutcome GetResult(short token)
    {
        try
        {
            return _core.GetResult(token);
        }
        finally
        {
            _registration.Dispose(); // Waits for a cancellation under way.
            _registration = default;
            Release();
        }
    }

    /// <inheritdoc/>
    public ValueTaskSourceStatus GetStatus(short token) => _core.GetStatus(token);

    /// <inheritdoc/>
    public void OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);

    private void Cancel()
    {
        lock (_lock)
        {
            _isCancelled = true;
            if (!_isPinned)
            {
                Complete(new NbdOutcome(NbdOutcomeKind.Cancelled));
            }
        }
    }

    private void FinishPart()
    {
        if (Interlocked.Decrement(ref _parts) == 0)
        {
            lock (_lock)
            {
                Complete(_outcome);
            }

            Release();
        }
    }

    /// <summary>Under the lock. The first outcome counts.</summary>
    private void Complete(NbdOutcome outcome)
    {
        if (!_isCompleted)
        {
            _isCompleted = true;
            _core.SetResult(outcome);
        }
    }

    /// <summary>Adds an owner, who calls <see cref="Release"/>.</summary>
    public void Keep() => Interlocked.Increment(ref _owners);

    /// <summary>Lets go; the last owner has it recycled.</summary>
    public void Release()
    {
        if (Interlocked.Decrement(ref _owners) != 0)
        {
            return;
        }

        Target = default;
        Payload = default;
        Failure = default;
        Coverage.Clear();
        Status.Clear();
        _outcome = default;
        _isPinned = _isCancelled = _isCompleted = false;
        _core.Reset();
        if (Interlocked.Increment(ref _pooled) <= MaxPooled)
        {
            Pool.Add(this);
        }
        else
        {
            Interlocked.Decrement(ref _pooled);
        }
    }
}
