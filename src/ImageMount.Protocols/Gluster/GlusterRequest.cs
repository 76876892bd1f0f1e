using ImageMount.Core.Memory;
using ImageMount.Interop;

namespace ImageMount.Protocols.Gluster;

/// <summary>How a request ended.</summary>
internal enum GlusterEnd
{
    /// <summary>Done.</summary>
    Ok,

    /// <summary>Refused, with an errno.</summary>
    Refused,

    /// <summary>Failed for a reason that is not known; to be sent again on the same session.</summary>
    Unclear,

    /// <summary>The session ended; whether it was carried out is not known.</summary>
    Lost,

    /// <summary>The caller gave it up.</summary>
    Cancelled,
}

/// <summary>How a request ended, and what it brought.</summary>
internal readonly record struct GlusterOutcome(GlusterEnd End, long Result = 0, int Errno = 0)
{
    /// <summary>Done.</summary>
    public bool IsOk => End == GlusterEnd.Ok;

    /// <summary>What a result of the library means.</summary>
    public static GlusterOutcome Of(long result) => result >= 0 ? new(GlusterEnd.Ok, result)
        : GlusterErrors.IsUnclear((int)-result) ? new(GlusterEnd.Unclear, 0, (int)-result)
        : GlusterErrors.IsLoss((int)-result) ? new(GlusterEnd.Lost, 0, (int)-result)
        : new(GlusterEnd.Refused, 0, (int)-result);
}

/// <summary>
/// An asynchronous request. It has two lives: that of its caller, who may give it up at any time, and that in the library,
/// which ends when the library says so, or never. The memory that the library uses is the request's own; it goes to the
/// caller with the outcome, and where the caller has gone, back to the pool when the library is done with it, not before.
/// </summary>
internal sealed class GlusterRequest : IGfapiCompletion
{
    private readonly GlusterSession _session;
    private readonly TaskCompletionSource<GlusterOutcome> _over = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly BufferLease? _lease;
    private readonly GfapiCommand _command;
    private int _isOver;
    private int _isDone;

    /// <summary>A request that is not sent yet.</summary>
    /// <param name="session">Where.</param>
    /// <param name="operation">What.</param>
    /// <param name="offset">First byte, or a size.</param>
    /// <param name="count">Bytes.</param>
    /// <param name="data">What is written; copied.</param>
    public GlusterRequest(
        GlusterSession session, GfapiOperation operation, long offset, long count, ReadOnlySpan<byte> data)
    {
        _session = session;
        if (operation <= GfapiOperation.Write)
        {
            BufferLease lease = BufferPool.Shared.Rent((int)count);
            data.CopyTo(lease.Span);
            _lease = lease;
        }

        _command = new GfapiCommand(operation, offset, count, _lease?.Memory ?? default);
    }

    /// <summary>When it was made, as the clock counts.</summary>
    public long Began { get; init; }

    /// <summary>The outcome.</summary>
    public Task<GlusterOutcome> Over => _over.Task;

    /// <summary>True when the library may still change the file by it.</summary>
    public bool IsChange => _command.Operation is not (GfapiOperation.Read or GfapiOperation.Sync);

    /// <summary>What was read. Only after an outcome that is Ok.</summary>
    public ReadOnlySpan<byte> Data => _lease!.Value.Span;

    /// <summary>Gives the memory back. Only after an outcome that came from the library.</summary>
    public void Release() => _lease?.Dispose();

    /// <summary>Gives the request to the library, unless nobody wants it any more.</summary>
    public void Send(IGfapiFile file)
    {
        if (Volatile.Read(ref _isOver) != 0)
        {
            Complete(-Errno.ECANCELED);
            return;
        }

        int result = file.Submit(_command, this);
        if (result != 0)
        {
            Complete(result);
        }
    }

    /// <inheritdoc/>
    public void Complete(long result)
    {
        if (Interlocked.Exchange(ref _isDone, 1) != 0)
        {
            return;
        }

        GlusterOutcome outcome = GlusterOutcome.Of(result);
        bool isMine = Interlocked.Exchange(ref _isOver, 1) == 0;
        if (!isMine)
        {
            Release();
        }

        _session.Done(this, outcome);
        if (isMine)
        {
            _over.SetResult(outcome);
        }
    }

    /// <summary>
    /// Ends the caller's wait; the library goes on. False: the library was quicker, and the outcome is there in a moment.
    /// </summary>
    public bool GiveUp(GlusterEnd why)
    {
        if (Interlocked.Exchange(ref _isOver, 1) != 0)
        {
            return false;
        }

        _over.SetResult(new GlusterOutcome(why));
        return true;
    }
}
