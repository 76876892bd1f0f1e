using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Threading.Tasks.Sources;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Iscsi;

/// <summary>How a request ended.</summary>
internal enum IscsiOutcomeKind
{
    /// <summary>The target has answered.</summary>
    Answered,

    /// <summary>The session ended first; whether it was done is not known.</summary>
    Lost,

    /// <summary>The caller has cancelled.</summary>
    Cancelled,
}

/// <summary>How a request ended, and what the target says.</summary>
/// <param name="Kind">How.</param>
/// <param name="Status">SCSI status.</param>
/// <param name="Sense">Why, for a check condition.</param>
/// <param name="Count">Bytes that were transferred.</param>
internal readonly record struct IscsiOutcome(
    IscsiOutcomeKind Kind, int Status = 0, ScsiSense Sense = default, int Count = 0) : IRemoteReply
{
    /// <inheritdoc/>
    public ReplyOutcome Outcome => Kind switch
    {
        IscsiOutcomeKind.Answered => Status == 0 ? ReplyOutcome.Ok : ReplyOutcome.Refused,
        IscsiOutcomeKind.Lost => ReplyOutcome.Lost,
        _ => ReplyOutcome.Cancelled,
    };
}

/// <summary>
/// One SCSI command on its way. It has two owners, the caller who awaits <see cref="Task"/>, and the session; it is
/// recycled when both have let go.
/// </summary>
/// <remarks>
/// libiscsi does not count the bytes of a read: a target that sends fewer than it claims would leave what was in the memory
/// before. So a mark that nobody can know is put into each 512 bytes of it before, and looked for afterwards: the smallest
/// piece that may be sent is that long, or is the rest.
/// </remarks>
internal sealed class IscsiRequest : IscsiCommand, IValueTaskSource<IscsiOutcome>
{
    private const int MaxPooled = 256;
    private const int MarkEvery = 512;

    private static readonly ConcurrentBag<IscsiRequest> Pool = [];
    private static readonly ulong Mark = BinaryPrimitives.ReadUInt64LittleEndian(
        System.Security.Cryptography.RandomNumberGenerator.GetBytes(sizeof(ulong)));

    private static int _pooled;

    private readonly Lock _lock = new();
    private ManualResetValueTaskSourceCore<IscsiOutcome> _core = new() { RunContinuationsAsynchronously = true };
    private CancellationTokenRegistration _registration;
    private IscsiSession? _session;
    private Memory<byte> _target;
    private bool _mustBeWhole;
    private bool _isCompleted;
    private int _owners;

    private IscsiRequest()
    {
    }

    /// <summary>Names it in its session.</summary>
    public long Id { get; set; }

    /// <summary>What to do.</summary>
    public ScsiCommand Command { get; private set; }

    /// <summary>Its data, whichever way it goes.</summary>
    public ReadOnlyMemory<byte> Payload { get; private set; }

    /// <summary>The result.</summary>
    public ValueTask<IscsiOutcome> Task => new(this, _core.Version);

    /// <summary>A request with both owners.</summary>
    /// <param name="session">Of whom.</param>
    /// <param name="command">What to do.</param>
    /// <param name="target">For what is read.</param>
    /// <param name="payload">What is written.</param>
    /// <param name="mustBeWhole">An answer with fewer bytes is an error.</param>
    public static IscsiRequest Rent(
        IscsiSession session, in ScsiCommand command, Memory<byte> target, ReadOnlyMemory<byte> payload, bool mustBeWhole)
    {
        if (Pool.TryTake(out IscsiRequest? request))
        {
            Interlocked.Decrement(ref _pooled);
        }
        else
        {
            request = new IscsiRequest();
        }

        request._session = session;
        request.Command = command;
        request._target = target;
        request.Payload = command.Direction == ScsiDirection.In ? target : payload;
        request._mustBeWhole = mustBeWhole;
        request._owners = 2;
        if (command.Direction == ScsiDirection.In)
        {
            request.SetMarks();
        }

        return request;
    }

    /// <summary>Has the token detach the request from its memory.</summary>
    public void CancelWith(CancellationToken cancellationToken) =>
        _registration = cancellationToken.UnsafeRegister(static state =>
        {
            var request = (IscsiRequest)state!;
            request._session!.Cancel(request.Id);
        }, this);

    /// <summary>On the session's thread: the caller does not want it any more.</summary>
    public void Abandon()
    {
        Detach();
        Complete(new IscsiOutcome(IscsiOutcomeKind.Cancelled));
    }

    /// <summary>The session is over, and nothing touches the memory.</summary>
    public void Lose()
    {
        Complete(new IscsiOutcome(IscsiOutcomeKind.Lost));
        Release();
    }

    /// <inheritdoc/>
    public IscsiOutcome GetResult(short token)
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

    /// <inheritdoc/>
    protected override void OnReply(in IscsiReply reply)
    {
        IscsiSession session = _session!;
        session.Finished(this);
        switch (reply.Status)
        {
            case IscsiReply.Cancelled:
                session.Dropped();
                Complete(new IscsiOutcome(IscsiOutcomeKind.Lost));
                break;
            case > 0xFF:
                session.Broken("it rejects a command, or answers it wrongly");
                Complete(new IscsiOutcome(IscsiOutcomeKind.Lost));
                break;
            default:
                if (reply.Status != 0)
                {
                    session.CommandFailed();
                }

                ScsiSense sense = reply.Sense is null ? default : ScsiSense.Parse(reply.Sense);
                bool isGood = reply.Status is 0 or 4 || (reply.Status == 2 && sense.Key == ScsiSense.RecoveredError);
                if (isGood && !_isCompleted && WhyTruncated(reply.Missing) is { } why)
                {
                    session.Broken(why);
                    Complete(new IscsiOutcome(IscsiOutcomeKind.Lost));
                    break;
                }

                Complete(new IscsiOutcome(
                    IscsiOutcomeKind.Answered, isGood ? 0 : reply.Status, sense,
                    (int)Math.Clamp(Payload.Length - Math.Max(reply.Missing, 0), 0, Payload.Length)));
                break;
        }

        Release();
    }

    private string? WhyTruncated(long missing)
    {
        if (!_mustBeWhole || Command.Direction == ScsiDirection.None)
        {
            return null;
        }

        return missing != 0 ? $"it transferred {Math.Abs(missing)} bytes too {(missing > 0 ? "few" : "many")}"
            : Command.Direction == ScsiDirection.In && HasMark() ? "it left out a part of what was read" : null;
    }

    private void SetMarks()
    {
        if (!_mustBeWhole)
        {
            _target.Span.Clear(); // What does not come counts as zero.
            return;
        }

        Span<byte> span = _target.Span;
        for (int end = MarkEvery; end <= span.Length; end += MarkEvery)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(span[(end - sizeof(ulong))..], Mark);
        }
    }

    private bool HasMark()
    {
        ReadOnlySpan<byte> span = _target.Span;
        for (int end = MarkEvery; end <= span.Length; end += MarkEvery)
        {
            if (BinaryPrimitives.ReadUInt64LittleEndian(span[(end - sizeof(ulong))..]) == Mark)
            {
                return true;
            }
        }

        return false;
    }

    private void Complete(in IscsiOutcome outcome)
    {
        lock (_lock)
        {
            if (!_isCompleted)
            {
                _isCompleted = true;
                _core.SetResult(outcome);
            }
        }
    }

    private void Release()
    {
        if (Interlocked.Decrement(ref _owners) != 0)
        {
            return;
        }

        _session = null;
        _target = default;
        Payload = default;
        _isCompleted = false;
        _core.Reset();
        if (Interlocked.Increment(ref _pooled) <= MaxPooled)
        {
            Pool.Add(this);
        }
        else
        {
            Interlocked.Decrement(ref _pooled);
            Dispose();
        }
    }
}
