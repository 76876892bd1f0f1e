using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols.Files;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Gluster;

/// <summary>
/// A file that is open on the connection of its volume. It ends with the first sign that the connection was lost, or when
/// it is given up; the file is closed when the library has told the end of every request, however long that takes.
/// </summary>
/// <remarks>
/// The library connects again by itself, and would go on with the same file as if nothing had happened, though a brick
/// that crashed may have forgotten what it had acknowledged. The fence tells: a lock on one byte far behind the end of the
/// file, which a brick keeps in memory only. With it the library does not take the file over to a new connection, and
/// after each flush it is looked at whether the lock is still there. It fences in the other direction too: a new
/// connection does not get the lock while a brick still serves the old one.
/// </remarks>
internal sealed class GlusterSession : IRemoteSession
{
    /// <summary>Most requests that the library has at once.</summary>
    public const int Depth = 64;

    private const int Everybody = 1 << 20;
    private static readonly TimeSpan s_goodbye = TimeSpan.FromSeconds(1);

    private readonly IGfapiFile _file;
    private readonly GlusterThread _thread;
    private readonly GlusterLedger _ledger;
    private readonly Action _closed;
    private readonly SemaphoreSlim _room = new(Depth, int.MaxValue);
    private readonly HashSet<GlusterRequest> _waiting = [];
    private readonly TaskCompletionSource<BlockException> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _gone = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly FileHoles _holes;
    private int _inLibrary;
    private int _calls;
    private long _progress;
    private long _newestDone;
    private bool _isOver;

    /// <summary>A session of an open file.</summary>
    /// <param name="file">The file, which the session closes.</param>
    /// <param name="thread">For calls, which the session stops.</param>
    /// <param name="ledger">Changes that the library still has, of all sessions of the device.</param>
    /// <param name="closed">Called when the file is closed.</param>
    public GlusterSession(IGfapiFile file, GlusterThread thread, GlusterLedger ledger, Action closed)
    {
        _file = file;
        _thread = thread;
        _ledger = ledger;
        _closed = closed;

        // An answer before the question is a known slip of some releases; then nothing is believed any more.
        _holes = new FileHoles((offset, whence) =>
        {
            long at = _file.Seek(offset, whence);
            return at < 0 || at >= offset ? at : -Errno.EIO;
        });
    }

    /// <summary>Bytes when it was opened.</summary>
    public long Size { get; init; }

    /// <summary>Where the lock is; null when there is none.</summary>
    public long? Fence { get; init; }

    /// <summary>True when the volume tells holes from data.</summary>
    public bool KnowsHoles { get; init; }

    /// <summary>`timeout`; zero: for ever.</summary>
    public TimeSpan Patience { get; init; }

    /// <summary>Source of time.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;

    /// <inheritdoc/>
    public int Outstanding
    {
        get
        {
            lock (_waiting)
            {
                return _waiting.Count + _calls;
            }
        }
    }

    /// <inheritdoc/>
    public long Progress
    {
        get
        {
            lock (_waiting)
            {
                // One that is left behind for good does not hide behind others that go on.
                bool isLeftBehind = Patience > TimeSpan.Zero && _waiting.Count > 0 && Clock.GetElapsedTime(
                    _waiting.Min(request => request.Began), _newestDone) > Patience / 2;
                return isLeftBehind ? -1 : _progress;
            }
        }
    }

    /// <inheritdoc/>
    public Task<BlockException> Ended => _ended.Task;

    /// <summary>Reads in one request; the answer may be shorter than the buffer.</summary>
    public async ValueTask<GlusterOutcome> ReadAsync(long offset, Memory<byte> target, CancellationToken cancellationToken)
    {
        GlusterRequest? request = await SendAsync(GfapiOperation.Read, offset, target.Length, default, cancellationToken)
            .ConfigureAwait(false);
        if (request is null)
        {
            return NotSent(cancellationToken);
        }

        GlusterOutcome outcome;
        using (cancellationToken.UnsafeRegister(
            static (state, _) => ((GlusterRequest)state!).GiveUp(GlusterEnd.Cancelled), request))
        {
            outcome = await request.Over.ConfigureAwait(false);
        }

        if (outcome.IsOk)
        {
            request.Data[..(int)Math.Min(outcome.Result, target.Length)].CopyTo(target.Span);
        }

        return Finish(request, outcome);
    }

    /// <summary>A change. It is not given up by its caller: what becomes of it must be known.</summary>
    public async ValueTask<GlusterOutcome> ChangeAsync(
        GfapiOperation operation, long offset, long count, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        GlusterRequest? request = await SendAsync(operation, offset, count, data, cancellationToken).ConfigureAwait(false);
        return request is null
            ? NotSent(cancellationToken)
            : Finish(request, await request.Over.ConfigureAwait(false));
    }

    /// <summary>
    /// Makes durable what was acknowledged before; Ok only when the bricks that acknowledged it are the same still.
    /// </summary>
    public async ValueTask<GlusterOutcome> FlushAsync()
    {
        GlusterOutcome outcome = await ChangeAsync(GfapiOperation.Sync, 0, 0, default, CancellationToken.None)
            .ConfigureAwait(false);
        if (!outcome.IsOk || Fence is not { } fence)
        {
            return outcome;
        }

        GlusterOutcome test = await CallAsync(file => file.TryTestFence(fence)).ConfigureAwait(false);
        if (test.IsOk && test.Result == 0)
        {
            Abort(new BlockException(
                BlockErrorKind.IoError, "a brick was started again, or lost the connection for a time"));
            return new GlusterOutcome(GlusterEnd.Lost);
        }

        return test;
    }

    /// <summary>The state of the first bytes of a range.</summary>
    public async ValueTask<BlockExtent> MapAsync(long offset, long count)
    {
        BlockExtent found = default;
        GlusterOutcome outcome = !KnowsHoles ? default : await CallAsync(_ =>
        {
            found = _holes.Map(offset, count);
            return 1;
        }).ConfigureAwait(false);
        return outcome.Result == 1 ? found : new BlockExtent(count, ExtentFlags.Data | ExtentFlags.Present);
    }

    /// <summary>A change is acknowledged.</summary>
    public void NoteChange() => _holes.NoteChange();

    /// <summary>Size and space in use.</summary>
    public async ValueTask<long?> GetAllocatedAsync()
    {
        long allocated = 0;
        GlusterOutcome outcome = await CallAsync(file => file.TryGetSize(out _, out allocated)).ConfigureAwait(false);
        return outcome.IsOk ? allocated : null;
    }

    /// <summary>A request came back from the library; called by it.</summary>
    public void Done(GlusterRequest request, GlusterOutcome outcome)
    {
        if (request.IsChange)
        {
            _ledger.Left();
        }

        bool isLast;
        lock (_waiting)
        {
            _waiting.Remove(request);
            _newestDone = Math.Max(_newestDone, request.Began);
            _progress++;
            _inLibrary--;
            isLast = _isOver && _inLibrary == 0;
        }

        _room.Release();
        if (outcome.End == GlusterEnd.Lost)
        {
            Abort(GlusterErrors.Lost(outcome.Errno));
        }

        if (isLast)
        {
            Close();
        }
    }

    /// <inheritdoc/>
    public void Abort(BlockException reason)
    {
        GlusterRequest[] waiting;
        bool isQuiet;
        lock (_waiting)
        {
            if (_isOver)
            {
                return;
            }

            _isOver = true;
            waiting = [.. _waiting];
            _waiting.Clear();
            isQuiet = _inLibrary == 0;
        }

        foreach (GlusterRequest request in waiting)
        {
            request.GiveUp(GlusterEnd.Lost);
        }

        _ended.TrySetResult(reason);
        _room.Release(Everybody);
        if (isQuiet)
        {
            Close();
        }
    }

    /// <inheritdoc/>
    public async ValueTask CloseAsync()
    {
        Abort(new BlockException(BlockErrorKind.Cancelled, "the disk is closed"));
        await Task.WhenAny(_gone.Task, Task.Delay(s_goodbye)).ConfigureAwait(false);
    }

    private static GlusterOutcome NotSent(CancellationToken cancellationToken) =>
        new(cancellationToken.IsCancellationRequested ? GlusterEnd.Cancelled : GlusterEnd.Lost);

    private static GlusterOutcome Finish(GlusterRequest request, GlusterOutcome outcome)
    {
        if (outcome.End != GlusterEnd.Cancelled && outcome is not { End: GlusterEnd.Lost, Errno: 0 })
        {
            request.Release(); // From the library, so nothing else has the memory.
        }

        return outcome;
    }

    /// <summary>Queues a request when there is room; null: the caller gave up, or the session is over.</summary>
    private async ValueTask<GlusterRequest?> SendAsync(
        GfapiOperation operation, long offset, long count, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        if (!_room.Wait(0, CancellationToken.None))
        {
            try
            {
                await _room.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return null;
            }
        }

        var request = new GlusterRequest(this, operation, offset, count, data.Span) { Began = Clock.GetTimestamp() };
        lock (_waiting)
        {
            if (!_isOver)
            {
                _waiting.Add(request);
                _inLibrary++;
                if (request.IsChange)
                {
                    _ledger.Entered();
                }

                _thread.Post(() => request.Send(_file));
                return request;
            }
        }

        request.Release();
        return null;
    }

    /// <summary>A call that blocks, on the thread.</summary>
    private async ValueTask<GlusterOutcome> CallAsync(Func<IGfapiFile, long> call)
    {
        Task<long> task;
        lock (_waiting)
        {
            if (_isOver)
            {
                return new GlusterOutcome(GlusterEnd.Lost);
            }

            _calls++;
            _inLibrary++;
            task = _thread.CallAsync(() =>
            {
                try
                {
                    return call(_file);
                }
                finally
                {
                    CallDone();
                }
            });
        }

        if (await Task.WhenAny(task, _ended.Task).ConfigureAwait(false) != task)
        {
            return new GlusterOutcome(GlusterEnd.Lost);
        }

        GlusterOutcome outcome = GlusterOutcome.Of(await task.ConfigureAwait(false));
        if (outcome.End == GlusterEnd.Lost)
        {
            Abort(GlusterErrors.Lost(outcome.Errno));
        }

        return outcome;
    }

    private void CallDone()
    {
        bool isLast;
        lock (_waiting)
        {
            _calls--;
            _inLibrary--;
            _progress++;
            isLast = _isOver && _inLibrary == 0;
        }

        if (isLast)
        {
            Close();
        }
    }

    private void Close()
    {
        _thread.Post(() =>
        {
            _file.Close();
            _closed();
            _gone.SetResult();
        });
        _thread.Stop();
    }
}

/// <summary>Counts the changes that the library has and has not told the end of.</summary>
internal sealed class GlusterLedger
{
    private readonly Lock _lock = new();
    private int _count;
    private TaskCompletionSource? _quiet;

    /// <summary>One more.</summary>
    public void Entered()
    {
        lock (_lock)
        {
            _count++;
        }
    }

    /// <summary>One less.</summary>
    public void Left()
    {
        TaskCompletionSource? quiet = null;
        lock (_lock)
        {
            if (--_count == 0)
            {
                (quiet, _quiet) = (_quiet, null);
            }
        }

        quiet?.SetResult();
    }

    /// <summary>Completes when there is none.</summary>
    public Task QuietAsync()
    {
        lock (_lock)
        {
            return _count == 0 ? Task.CompletedTask
                : (_quiet ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
        }
    }
}
