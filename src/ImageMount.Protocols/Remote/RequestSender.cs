using System.Runtime.CompilerServices;
using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>How a request ended.</summary>
internal enum ReplyOutcome
{
    /// <summary>Done.</summary>
    Ok,

    /// <summary>The server has refused it.</summary>
    Refused,

    /// <summary>The connection ended first; whether it was done is not known.</summary>
    Lost,

    /// <summary>The caller has cancelled.</summary>
    Cancelled,
}

/// <summary>The end of a request, as a protocol has it.</summary>
internal interface IRemoteReply
{
    /// <summary>How it ended.</summary>
    ReplyOutcome Outcome { get; }
}

/// <summary>A change of the disk, for the log of what is not flushed.</summary>
/// <param name="Kind">What is done.</param>
/// <param name="Offset">First byte.</param>
/// <param name="Count">Bytes.</param>
/// <param name="Data">What is written; empty for other kinds.</param>
/// <param name="IsDurable">True when it need not be written again once it is acknowledged.</param>
internal readonly record struct RemoteChange(
    ChangeKind Kind, long Offset, long Count, ReadOnlyMemory<byte> Data, bool IsDurable);

/// <summary>
/// Sends requests to a server that may go away until they count: what is lost with a session is sent again on the next one,
/// as long as the link allows. A change counts when it is in the log of what is not flushed, a flush when what was
/// acknowledged before it is out of there.
/// </summary>
/// <param name="link">Sessions.</param>
/// <param name="log">What was acknowledged and not flushed.</param>
/// <param name="forget">Forgets what is known of a range; called before a change is sent, and when it has ended.</param>
internal sealed class RequestSender<TSession, TReply>(
    RemoteLink<TSession> link, UnflushedWrites log, Action<long, long> forget)
    where TSession : class, IRemoteSession
    where TReply : struct, IRemoteReply
{
    /// <summary>Sends a request once. Whatever becomes of it is a reply; it does not fail.</summary>
    public delegate ValueTask<TReply> Send<in TState>(
        TSession session, TState state, CancellationToken cancellationToken);

    /// <summary>Sends until it is done or refused.</summary>
    /// <param name="send">Sends it once.</param>
    /// <param name="state">For <paramref name="send"/>, so that it needs no closure.</param>
    /// <param name="cancellationToken">The caller's.</param>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<TReply> SendAsync<TState>(
        Send<TState> send, TState state, CancellationToken cancellationToken)
    {
        long firstLoss = 0;
        while (true)
        {
            LinkLease<TSession> lease = await link.GetAsync(cancellationToken).ConfigureAwait(false);
            TReply reply = await send(lease.Session, state, cancellationToken).ConfigureAwait(false);
            if (reply.Outcome is ReplyOutcome.Ok or ReplyOutcome.Refused)
            {
                return reply;
            }

            await AgainAsync(reply.Outcome, lease, ref firstLoss).ConfigureAwait(false);
        }
    }

    /// <summary>Sends a change until it is refused, or acknowledged and in the log.</summary>
    /// <param name="change">What the log has to know of it.</param>
    /// <param name="send">Sends it once.</param>
    /// <param name="state">For <paramref name="send"/>.</param>
    /// <param name="cancellationToken">The caller's.</param>
    public async ValueTask<TReply> ChangeAsync<TState>(
        RemoteChange change, Send<TState> send, TState state, CancellationToken cancellationToken)
    {
        long ticket = await log.BeginAsync(change.Offset, change.Count, cancellationToken).ConfigureAwait(false);
        bool isEntered = false;
        long firstLoss = 0;
        try
        {
            forget(change.Offset, change.Count);
            while (true)
            {
                LinkLease<TSession> lease = await link.GetAsync(cancellationToken).ConfigureAwait(false);
                TReply reply = await send(lease.Session, state, cancellationToken).ConfigureAwait(false);
                if (reply.Outcome == ReplyOutcome.Ok
                    && log.TryAcknowledge(ticket, lease.Generation, change.Kind, change.Data, change.IsDurable))
                {
                    isEntered = true;
                    return reply;
                }

                if (reply.Outcome == ReplyOutcome.Refused)
                {
                    return reply;
                }

                // Acknowledged and not entered: by a session that does not count any more.
                await AgainAsync(reply.Outcome, lease, ref firstLoss).ConfigureAwait(false);
            }
        }
        finally
        {
            if (!isEntered)
            {
                log.Abandon(ticket);
            }

            forget(change.Offset, change.Count);
        }
    }

    /// <summary>Sends a flush until it is done. One that is refused is told by every later one too.</summary>
    /// <param name="mark">Of the log, from before.</param>
    /// <param name="send">Sends it once.</param>
    /// <param name="refusal">What a refused one fails with.</param>
    /// <param name="cancellationToken">The caller's; not for what is sent already.</param>
    public async ValueTask FlushAsync(
        long mark, Func<TSession, ValueTask<TReply>> send, Func<TReply, BlockException> refusal,
        CancellationToken cancellationToken)
    {
        long firstLoss = 0;
        while (true)
        {
            LinkLease<TSession> lease = await link.GetAsync(cancellationToken).ConfigureAwait(false);
            TReply reply = await send(lease.Session).ConfigureAwait(false);
            switch (reply.Outcome)
            {
                case ReplyOutcome.Ok:
                    log.Flushed(mark, lease.Generation);
                    log.Mark(); // Restoring may have failed meanwhile.
                    return;
                case ReplyOutcome.Refused:
                    BlockException refused = refusal(reply);
                    log.ReportLost(refused);
                    throw refused;
                default:
                    await AgainAsync(reply.Outcome, lease, ref firstLoss).ConfigureAwait(false);
                    break;
            }
        }
    }

    /// <summary>Returns when a request that was not refused is to be sent again; throws when it is not.</summary>
    /// <param name="outcome">How it ended.</param>
    /// <param name="lease">The session that it was sent to.</param>
    /// <param name="firstLoss">0 before the first call; kept by the request.</param>
    public Task AgainAsync(ReplyOutcome outcome, LinkLease<TSession> lease, ref long firstLoss) => outcome switch
    {
        ReplyOutcome.Cancelled => throw new BlockException(BlockErrorKind.Cancelled, "the request was cancelled"),
        ReplyOutcome.Ok => Task.CompletedTask,
        _ => WaitForEndAsync(lease, link.MayRetry(ref firstLoss)),
    };

    private async Task WaitForEndAsync(LinkLease<TSession> lease, bool mayRetry)
    {
        BlockException reason = await lease.Session.Ended.ConfigureAwait(false);
        if (!mayRetry || reason.Kind == BlockErrorKind.InvalidData)
        {
            // A server that breaks the protocol would do so again.
            throw link.Lost(reason);
        }
    }
}
