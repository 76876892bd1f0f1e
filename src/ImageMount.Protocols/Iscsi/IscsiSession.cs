using System.Runtime.CompilerServices;
using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Protocols.Iscsi;

/// <summary>
/// A session with a target, and the thread that it belongs to: libiscsi takes calls from one thread only. Requests are
/// queued from anywhere and wake it; it sends, receives, and completes them.
/// </summary>
/// <remarks>
/// It ends once: by itself when the library says so, or aborted. Then the library's context is destroyed, and everything
/// that has no answer is lost, when nothing can touch its memory any more. The library never connects again by itself.
/// </remarks>
internal sealed class IscsiSession : IRemoteSession
{
    /// <summary>Most commands without an answer.</summary>
    public const int Depth = 128;

    private static readonly TimeSpan s_goodbye = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_end = TimeSpan.FromSeconds(5);

    private readonly IscsiLogin _login;
    private readonly string _portal;
    private readonly string _peer;
    private readonly int _lun;
    private readonly SemaphoreSlim _room = new(Depth, Depth);
    private readonly Lock _lock = new();
    private readonly SafeFileHandle _wake = SysEventFd.Create();
    private readonly Dictionary<long, IscsiRequest> _inFlight = [];
    private readonly TaskCompletionSource _ready = New();
    private readonly TaskCompletionSource _loggedOut = New();
    private readonly TaskCompletionSource _done = New();
    private readonly TaskCompletionSource<BlockException> _ended =
        new(TaskCreationOptions.RunContinuationsAsynchronously);
    private List<IscsiRequest> _queue = [];
    private List<IscsiRequest> _sending = [];
    private List<long> _cancelled = [];
    private List<long> _cancelling = [];
    private BlockException? _abort;
    private BlockException? _fault;
    private byte[] _oldError = [];
    private IscsiContext? _context;
    private bool _isConnected;
    private bool _isUp;
    private bool _isOver;
    private bool _wantsLogout;
    private int _isSignalled;
    private int _outstanding;
    private long _progress;
    private long _lastId;

    private IscsiSession(IscsiLogin login, string portal, string peer, int lun)
    {
        _login = login;
        _portal = portal;
        _peer = peer;
        _lun = lun;
    }

    /// <inheritdoc/>
    public int Outstanding => Volatile.Read(ref _outstanding);

    /// <inheritdoc/>
    public long Progress => Volatile.Read(ref _progress);

    /// <inheritdoc/>
    public Task<BlockException> Ended => _ended.Task;

    /// <summary>What was found out about the unit, once it was.</summary>
    public IscsiUnit Unit { get; set; } = null!;

    /// <summary>Connects and logs in.</summary>
    /// <param name="login">As whom, to what.</param>
    /// <param name="portal">Numeric address and port.</param>
    /// <param name="peer">What messages call the portal.</param>
    /// <param name="lun">Number of the unit as it stands in a command.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="IscsiRedirectException">The target sends us elsewhere.</exception>
    /// <exception cref="IscsiUnreachableException">There was no connection.</exception>
    public static async Task<IscsiSession> ConnectAsync(
        IscsiLogin login, string portal, string peer, int lun, CancellationToken cancellationToken)
    {
        var session = new IscsiSession(login, portal, peer, lun);
        new Thread(session.Run, 256 << 10) { IsBackground = true, Name = "iscsi" }.Start();
        await using (cancellationToken.UnsafeRegister(
            static state => ((IscsiSession)state!).Abort(new BlockException(BlockErrorKind.Cancelled, "cancelled")), session)
            .ConfigureAwait(false))
        {
            try
            {
                await session._ready.Task.ConfigureAwait(false);
                return session;
            }
            catch
            {
                await session._done.Task.WaitAsync(s_end, CancellationToken.None).ConfigureAwait(
                    ConfigureAwaitOptions.SuppressThrowing);
                cancellationToken.ThrowIfCancellationRequested();
                throw;
            }
        }
    }

    /// <summary>Sends a command and waits for its end.</summary>
    /// <param name="command">What to do.</param>
    /// <param name="target">Where data from the target goes.</param>
    /// <param name="payload">Data for the target.</param>
    /// <param name="mustBeWhole">Less data than that is an error.</param>
    /// <param name="cancellationToken">Of a command that reads; others are carried out once they are queued.</param>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<IscsiOutcome> ExecuteAsync(
        ScsiCommand command, Memory<byte> target, ReadOnlyMemory<byte> payload, bool mustBeWhole,
        CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _outstanding);
        try
        {
            await _room.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            Interlocked.Decrement(ref _outstanding);
            return new IscsiOutcome(IscsiOutcomeKind.Cancelled);
        }

        IscsiRequest request = IscsiRequest.Rent(this, command, target, payload, mustBeWhole);
        bool isQueued;
        lock (_lock)
        {
            isQueued = !_isOver;
            if (isQueued)
            {
                request.Id = ++_lastId;
                _queue.Add(request);
            }
        }

        if (!isQueued)
        {
            Leave();
            request.Lose();
        }
        else
        {
            if (command.Direction == ScsiDirection.In && cancellationToken.CanBeCanceled)
            {
                request.CancelWith(cancellationToken);
            }

            Wake();
        }

        return await request.Task.ConfigureAwait(false);
    }

    /// <summary>The caller of a request does not want it any more.</summary>
    public void Cancel(long id)
    {
        lock (_lock)
        {
            _cancelled.Add(id);
        }

        Wake();
    }

    /// <inheritdoc/>
    public void Abort(BlockException reason)
    {
        lock (_lock)
        {
            _abort ??= reason;
        }

        _ended.TrySetResult(reason);
        _ready.TrySetException(reason); // Or a login that the library makes nothing of would be waited for.
        Wake();
    }

    /// <inheritdoc/>
    public async ValueTask CloseAsync()
    {
        if (!_ended.Task.IsCompleted)
        {
            Volatile.Write(ref _wantsLogout, true);
            Wake();
            await Task.WhenAny(_loggedOut.Task, _done.Task, Task.Delay(s_goodbye)).ConfigureAwait(false);
        }

        Abort(new BlockException(BlockErrorKind.Cancelled, "the session is closed"));

        // Not for ever: it is the library's code that runs there.
        await _done.Task.WaitAsync(s_end).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>On the thread: a request has ended.</summary>
    public void Finished(IscsiRequest request)
    {
        _inFlight.Remove(request.Id);
        Volatile.Write(ref _progress, _progress + 1);
        Leave();
    }

    /// <summary>On the thread: the target breaks the protocol, and the session is not used any more.</summary>
    public void Broken(string how) => _fault ??= new BlockException(
        BlockErrorKind.InvalidData, $"the target at {_peer} breaks the protocol: {how}");

    /// <summary>On the thread: the library has given the session up.</summary>
    public void Dropped() => _fault ??= WhyOver(_context!);

    /// <summary>On the thread: the library's words are about a command, not about the session.</summary>
    public void CommandFailed() => _oldError = _context!.ErrorText.ToArray();

    private static TaskCompletionSource New() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private void Leave()
    {
        Interlocked.Decrement(ref _outstanding);
        _room.Release();
    }

    private void Wake()
    {
        if (Interlocked.Exchange(ref _isSignalled, 1) != 0)
        {
            return;
        }

        lock (_lock)
        {
            if (!_isOver)
            {
                SysEventFd.Signal((int)_wake.DangerousGetHandle());
            }
        }
    }

    /// <summary>The thread.</summary>
    private void Run()
    {
        BlockException reason;
        try
        {
            _context = new IscsiContext(_login);
            reason = Talk(_context);
        }
        catch (Exception e)
        {
            // A bug of ours, or no memory: it must not end the process from a thread of its own.
            reason = e as BlockException ?? new BlockException(BlockErrorKind.IoError, $"the session failed: {e.Message}", e);
        }

        _ended.TrySetResult(reason);
        _context?.Dispose(); // Replies to what is under way.
        foreach (IscsiRequest request in _inFlight.Values)
        {
            IscsiContext.Forget(request);
            Leave();
            request.Lose();
        }

        _inFlight.Clear();
        lock (_lock)
        {
            _isOver = true;
        }

        foreach (IscsiRequest request in _queue.Concat(_sending))
        {
            Leave();
            request.Lose();
        }

        _wake.Dispose();
        _ready.TrySetException(_isConnected ? reason : new IscsiUnreachableException(reason));
        _done.SetResult();
    }

    /// <summary>Until the end of the session; why it ended.</summary>
    private BlockException Talk(IscsiContext context)
    {
        context.Connected = status => OnConnected(context, status);
        context.LoggedIn = status => OnLoggedIn(context, status);
        context.LoggedOut = _ => _loggedOut.TrySetResult();
        if (!context.TryConnect(_portal))
        {
            return IscsiErrors.NotConnected(_peer, context.ErrorText);
        }

        bool hasLoggedOut = false;
        while (true)
        {
            if (Volatile.Read(ref _abort) is { } abort)
            {
                return abort;
            }

            if (_isUp)
            {
                SendQueued(context);
                if (Volatile.Read(ref _wantsLogout) && !hasLoggedOut)
                {
                    hasLoggedOut = context.TryLogout();
                }

                if (!context.ServiceOutput())
                {
                    return _fault ?? WhyOver(context);
                }
            }

            if (_fault is not null)
            {
                return _fault;
            }

            short events = context.Wait(_wake, out bool isWoken);
            if (isWoken)
            {
                SysEventFd.Clear((int)_wake.DangerousGetHandle());
                Volatile.Write(ref _isSignalled, 0);
            }

            if (events < 0 || (events != 0 && !context.Service(events)) || (_isUp && !context.IsLoggedIn))
            {
                return _fault ?? WhyOver(context);
            }
        }
    }

    private void SendQueued(IscsiContext context)
    {
        lock (_lock)
        {
            (_queue, _sending) = (_sending, _queue);
            (_cancelled, _cancelling) = (_cancelling, _cancelled);
        }

        Span<byte> cdb = stackalloc byte[16];
        int sent = 0;
        foreach (IscsiRequest request in _sending)
        {
            request.Command.CopyTo(cdb);
            if (!context.TrySend(
                request, _lun, cdb[..request.Command.Length], request.Command.Direction, request.Payload))
            {
                _fault ??= WhyOver(context);
                break;
            }

            _inFlight.Add(request.Id, request);
            sent++;
        }

        _sending.RemoveRange(0, sent);
        foreach (long id in _cancelling)
        {
            if (_inFlight.TryGetValue(id, out IscsiRequest? request))
            {
                request.Abandon();
            }
        }

        _cancelling.Clear();
    }

    private void OnConnected(IscsiContext context, int status)
    {
        if (status != 0)
        {
            _fault ??= IscsiErrors.NotConnected(_peer, context.ErrorText);
        }
        else
        {
            _isConnected = true;
            if (!context.TryLogin())
            {
                _fault ??= IscsiErrors.NotLoggedIn(_peer, context.ErrorText);
            }
        }
    }

    private void OnLoggedIn(IscsiContext context, int status)
    {
        if (status == 0 && IscsiErrors.WhyNotGoOn(_peer, _login, context) is { } why)
        {
            _fault ??= why;
        }
        else if (status == 0)
        {
            context.StopListening();
            _oldError = context.ErrorText.ToArray();
            _isUp = true;
            _ready.TrySetResult();
        }
        else if (status == IscsiContext.Redirected)
        {
            string address = context.TargetAddress;
            _ready.TrySetException(new IscsiRedirectException(address));
            _fault ??= new BlockException(BlockErrorKind.IoError, $"{_peer} sends us elsewhere");
        }
        else
        {
            _fault ??= IscsiErrors.NotLoggedIn(_peer, context.ErrorText);
        }
    }

    /// <summary>The library keeps the words of its last failure, which may be another one.</summary>
    private BlockException WhyOver(IscsiContext context)
    {
        ReadOnlySpan<byte> text = context.ErrorText;
        return !_isConnected ? IscsiErrors.NotConnected(_peer, text)
            : !_isUp ? IscsiErrors.NotLoggedIn(_peer, text)
            : text.SequenceEqual(_oldError) ? NetworkErrors.Closed(_peer) : IscsiErrors.Broken(_peer, text);
    }
}

/// <summary>The target wants us to log in elsewhere.</summary>
/// <param name="address">"host:port,group".</param>
internal sealed class IscsiRedirectException(string address) : Exception("redirected")
{
    /// <summary>Where.</summary>
    public string Address { get; } = address;
}

/// <summary>There is nobody at an address.</summary>
/// <param name="reason">As far as the library says.</param>
internal sealed class IscsiUnreachableException(BlockException reason) : Exception(reason.Message, reason)
{
    /// <summary>Why.</summary>
    public BlockException Reason { get; } = reason;
}
