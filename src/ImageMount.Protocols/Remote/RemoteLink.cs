using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>A session and its number: 1 for the first, one more after each reconnection.</summary>
internal sealed class LinkLease<T>(T session, int generation)
    where T : class, IRemoteSession
{
    /// <summary>The session; may end at any time.</summary>
    public T Session { get; } = session;

    /// <summary>Its number, for <see cref="UnflushedWrites"/>.</summary>
    public int Generation { get; } = generation;
}

/// <summary>
/// Keeps a session with a server up: notices that it ended or stalls, connects again with growing pauses, lets requests
/// wait meanwhile, and gives up on them in time.
/// </summary>
/// <remarks>
/// <para>States: up → (session ended) → down, requests wait → (`reconnect-delay` over) → down, requests fail at once →
/// (connected, and <c>restore</c> is done) → up. The tries go on until the link is closed.</para>
/// <para>A request is used like this: <c>GetAsync</c>, send it on the session, and when it comes back as lost ask
/// <see cref="MayRetry"/> and begin again. A session is handed out only after <c>restore</c> has finished, so what is
/// sent again never overtakes what had to be restored.</para>
/// <para>Stalling: while requests are outstanding and <see cref="IRemoteSession.Progress"/> does not change for
/// `timeout`, the session is aborted. <see cref="StopWaiting"/> shortens all of this for the end of a mount.</para>
/// </remarks>
internal sealed class RemoteLink<T> : IAsyncDisposable
    where T : class, IRemoteSession
{
    private readonly string _peer;
    private readonly LinkPolicy _policy;
    private readonly TimeProvider _clock;
    private readonly Func<CancellationToken, Task<T>> _connect;
    private readonly Func<LinkLease<T>, CancellationToken, Task> _restore;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _lock = new();
    private LinkLease<T>? _current;
    private TaskCompletionSource<LinkLease<T>?> _up = NewWait();
    private BlockException? _lastFailure;
    private bool _isHopeless;
    private TimeSpan _delay;
    private TimeSpan _timeout;
    private ITimer? _deadline;
    private ITimer? _watch;
    private long _lastProgress;
    private long _lastChange;
    private bool _stalled;
    private Task _keeper = Task.CompletedTask;

    /// <summary>A link that is not open yet.</summary>
    /// <param name="peer">What messages call the server, without secrets: "127.0.0.1:10809".</param>
    /// <param name="policy">How patient.</param>
    /// <param name="connect">Makes a session, or throws BlockException.</param>
    /// <param name="restore">
    /// Brings a new session to where the old one was (replays writes); called for every session but the first, before
    /// anybody else gets it. Throws when it cannot; then the session is dropped and the next one tried.
    /// </param>
    public RemoteLink(
        string peer, LinkPolicy policy, Func<CancellationToken, Task<T>> connect,
        Func<LinkLease<T>, CancellationToken, Task> restore)
    {
        _peer = peer;
        _policy = policy;
        _clock = policy.Clock;
        _connect = connect;
        _restore = restore;
        _delay = policy.ReconnectDelay;
        _timeout = policy.Timeout;
    }

    /// <summary>How many sessions there were.</summary>
    public int Generation { get; private set; }

    /// <summary>Connects for the first time, trying again until `open-timeout`; throws the last failure.</summary>
    public async Task<T> OpenAsync(CancellationToken cancellationToken)
    {
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stop.Token);
        long began = _clock.GetTimestamp();
        TimeSpan pause = _policy.FirstPause;
        while (true)
        {
            try
            {
                T session = await TryConnectAsync(both.Token).ConfigureAwait(false);
                SetUp(new LinkLease<T>(session, ++Generation));
                _keeper = KeepAsync(session);
                return session;
            }
            catch (BlockException) when (
                !both.IsCancellationRequested && _clock.GetElapsedTime(began) + pause <= _policy.OpenTimeout)
            {
                await Task.Delay(pause, _clock, both.Token).ConfigureAwait(false);
                pause = Longer(pause);
            }
        }
    }

    /// <summary>The session, now or when it is back.</summary>
    /// <exception cref="BlockException">It is not back in time; or the link is closed.</exception>
    public ValueTask<LinkLease<T>> GetAsync(CancellationToken cancellationToken) =>
        Volatile.Read(ref _current) is { } lease && !lease.Session.Ended.IsCompleted
            ? new(lease)
            : WaitForSessionAsync(cancellationToken);

    /// <summary>
    /// Whether a request that came back as lost is to be sent again. One that has been lost again and again for longer
    /// than `reconnect-delay` (because it brings the server down each time) is not.
    /// </summary>
    /// <param name="firstLoss">0 before the first call; kept by the request.</param>
    public bool MayRetry(ref long firstLoss)
    {
        long now = _clock.GetTimestamp();
        firstLoss = firstLoss == 0 ? now : firstLoss;
        lock (_lock)
        {
            return _delay > TimeSpan.Zero && !_stop.IsCancellationRequested
                && _clock.GetElapsedTime(firstLoss, now) <= _delay;
        }
    }

    /// <summary>What a request fails with that is lost and not sent again.</summary>
    public BlockException Lost(BlockException reason) => new(
        reason.Kind == BlockErrorKind.TimedOut ? BlockErrorKind.TimedOut : BlockErrorKind.IoError,
        $"the connection to {_peer} is lost: {reason.Message}", reason)
    {
        Hint = reason.Hint,
    };

    /// <summary>See <see cref="IWaitsForPeer"/>.</summary>
    public void StopWaiting(TimeSpan grace)
    {
        lock (_lock)
        {
            _delay = Shorter(_delay, grace);
            _timeout = _timeout == TimeSpan.Zero ? grace : Shorter(_timeout, grace);
            if (_current is null && !_isHopeless)
            {
                ArmDeadline(grace);
            }

            _watch?.Change(WatchPeriod(), Timeout.InfiniteTimeSpan);
        }
    }

    /// <summary>Ends everything. Requests that still wait fail.</summary>
    public async ValueTask DisposeAsync()
    {
        T? session;
        lock (_lock)
        {
            session = _current?.Session;
            _current = null;
            _deadline?.Dispose();
            _watch?.Dispose();
        }

        await _stop.CancelAsync().ConfigureAwait(false);
        _up.TrySetResult(null);
        if (session is not null)
        {
            await session.CloseAsync().ConfigureAwait(false);
            session.Abort(new BlockException(BlockErrorKind.Cancelled, "the disk is closed"));
        }

        await _keeper.ConfigureAwait(false);
    }

    private static TaskCompletionSource<LinkLease<T>?> NewWait() =>
        new(TaskCreationOptions.RunContinuationsAsynchronously);

    private static TimeSpan Shorter(TimeSpan a, TimeSpan b) => a < b ? a : b;

    private TimeSpan Longer(TimeSpan pause) => Shorter(pause * 2, _policy.LongestPause);

    private async ValueTask<LinkLease<T>> WaitForSessionAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            Task<LinkLease<T>?> wait;
            lock (_lock)
            {
                if (_stop.IsCancellationRequested)
                {
                    throw new BlockException(BlockErrorKind.Cancelled, "the disk is closed");
                }

                if (_current is { } current && !current.Session.Ended.IsCompleted)
                {
                    return current;
                }

                // An ended session that the keeper has not put away yet counts as down: its end is told in a moment.
                if (_current is null && (_isHopeless || _delay == TimeSpan.Zero))
                {
                    throw Lost(_lastFailure!);
                }

                wait = _current is null ? _up.Task : PutAwayAsync(_current.Session);
            }

            await wait.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private async Task<LinkLease<T>?> PutAwayAsync(T session)
    {
        SetDown(session, await session.Ended.ConfigureAwait(false));
        return null;
    }

    /// <summary>From the end of each session to the next one, until the link is closed.</summary>
    private async Task KeepAsync(T session)
    {
        while (true)
        {
            BlockException reason = await session.Ended.ConfigureAwait(false);
            SetDown(session, reason);
            await session.CloseAsync().ConfigureAwait(false);
            if (await ReconnectAsync().ConfigureAwait(false) is not { } next)
            {
                return;
            }

            session = next;
        }
    }

    private async Task<T?> ReconnectAsync()
    {
        TimeSpan pause = _policy.FirstPause;
        while (!_stop.IsCancellationRequested)
        {
            T? session = null;
            try
            {
                session = await TryConnectAsync(_stop.Token).ConfigureAwait(false);
                if (_stalled)
                {
                    await Task.Delay(_policy.Settle, _clock, _stop.Token).ConfigureAwait(false);
                }

                var lease = new LinkLease<T>(session, ++Generation);
                Watch(session);
                await _restore(lease, _stop.Token).ConfigureAwait(false);
                if (SetUp(lease))
                {
                    return session;
                }
            }
            catch (BlockException e)
            {
                lock (_lock)
                {
                    _lastFailure = e;
                }
            }
            catch (OperationCanceledException) when (_stop.IsCancellationRequested)
            {
                // Closed meanwhile; the loop ends.
            }

            if (session is not null)
            {
                session.Abort(new BlockException(BlockErrorKind.Cancelled, "the session could not be restored"));
                await session.CloseAsync().ConfigureAwait(false);
            }

            await PauseAsync(pause).ConfigureAwait(false);
            pause = Longer(pause);
        }

        return null;
    }

    private async Task PauseAsync(TimeSpan pause)
    {
        try
        {
            await Task.Delay(pause, _clock, _stop.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // The caller's loop sees it.
        }
    }

    /// <summary>One try. Whatever stops it is a BlockException, or the caller's own cancellation.</summary>
    private async Task<T> TryConnectAsync(CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(_policy.TryTimeout, _clock);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limit.Token);
        try
        {
            return await _connect(both.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new BlockException(
                BlockErrorKind.TimedOut, $"{_peer} did not answer within {_policy.TryTimeout.TotalSeconds:0.#} s", e);
        }
    }

    /// <summary>False: the link was closed meanwhile.</summary>
    private bool SetUp(LinkLease<T> lease)
    {
        TaskCompletionSource<LinkLease<T>?> waiting;
        lock (_lock)
        {
            if (_stop.IsCancellationRequested)
            {
                return false;
            }

            _current = lease;
            _isHopeless = _stalled = false;
            _deadline?.Dispose();
            _deadline = null;
            waiting = _up;
        }

        Watch(lease.Session);
        waiting.TrySetResult(lease);
        return true;
    }

    private void SetDown(T session, BlockException reason)
    {
        lock (_lock)
        {
            if (_current?.Session != session)
            {
                return;
            }

            _current = null;
            _lastFailure = reason;
            _up = NewWait();
            if (!_stop.IsCancellationRequested)
            {
                ArmDeadline(_delay);
            }
        }
    }

    /// <summary>Under the lock.</summary>
    private void ArmDeadline(TimeSpan delay)
    {
        _deadline?.Dispose();
        TaskCompletionSource<LinkLease<T>?> waiting = _up;
        _deadline = _clock.CreateTimer(_ => GiveUp(waiting), null, delay, Timeout.InfiniteTimeSpan);
    }

    /// <summary>Those who wait for a session wait no longer; nor does anybody else until there is one.</summary>
    private void GiveUp(TaskCompletionSource<LinkLease<T>?> waiting)
    {
        lock (_lock)
        {
            if (_current is not null || _up != waiting)
            {
                return;
            }

            _isHopeless = true;
        }

        waiting.TrySetResult(null);
    }

    private TimeSpan WatchPeriod() =>
        _timeout == TimeSpan.Zero ? Timeout.InfiniteTimeSpan : Shorter(_timeout / 4, TimeSpan.FromSeconds(1));

    private void Watch(T session)
    {
        lock (_lock)
        {
            _watch?.Dispose();
            _lastProgress = session.Progress;
            _lastChange = _clock.GetTimestamp();
            _watch = _clock.CreateTimer(_ => Look(session), null, WatchPeriod(), Timeout.InfiniteTimeSpan);
        }
    }

    private void Look(T session)
    {
        TimeSpan idle;
        lock (_lock)
        {
            long progress = session.Progress;
            if (session.Outstanding == 0 || progress != _lastProgress)
            {
                _lastProgress = progress;
                _lastChange = _clock.GetTimestamp();
            }

            idle = _clock.GetElapsedTime(_lastChange);
            if (_timeout == TimeSpan.Zero || idle < _timeout)
            {
                if (!session.Ended.IsCompleted && !_stop.IsCancellationRequested)
                {
                    _watch?.Change(WatchPeriod(), Timeout.InfiniteTimeSpan);
                }

                return;
            }

            _stalled = true;
        }

        session.Abort(new BlockException(
            BlockErrorKind.TimedOut, $"{_peer} did not answer for {idle.TotalSeconds:0.#} s"));
    }
}
