using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Transport;
using ImageMount.Interop;

namespace ImageMount.Fuse.Protocol;

/// <summary>
/// The protocol without a kernel: takes requests as bytes, calls the file system, gives replies as bytes. A transport
/// puts a request into a <see cref="FuseRequest"/> and calls <see cref="Process"/>, from as many threads as it likes.
/// </summary>
/// <remarks>
/// States: created → INIT answered → destroyed. Before INIT only INIT is served; after it, INIT is an error.
/// Malformed requests are answered EINVAL (short body, unterminated name), EIO (lengths that contradict each other) or
/// ENOSYS (unknown opcode). Deliberately not here: threads, descriptors, buffers' lives (transport), disks (nobody).
/// </remarks>
internal sealed class FuseServer
{
    private readonly FuseSessionOptions _options;
    private readonly FuseDrain _drain;
    private readonly TaskCompletionSource _initialized = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lazy<Task> _destroyed;
    private readonly Func<IReadOnlyList<FuseRequest>> _requests;
    private volatile bool _destroying;

    /// <param name="fileSystem">Who does the work.</param>
    /// <param name="options">Wishes for INIT; tracer; warnings.</param>
    /// <param name="connection">Given to <see cref="FuseFileSystem.InitializeAsync"/>.</param>
    /// <param name="capacity">Payload bytes that a request's buffer holds.</param>
    /// <param name="requests">All places for requests, for INTERRUPT and drains.</param>
    public FuseServer(
        FuseFileSystem fileSystem, FuseSessionOptions options, IFuseConnection connection, int capacity,
        Func<IReadOnlyList<FuseRequest>> requests)
    {
        FileSystem = fileSystem;
        Connection = connection;
        Capacity = capacity;
        _options = options;
        _requests = requests;
        _drain = new FuseDrain(requests);
        _destroyed = new Lazy<Task>(DestroyOnceAsync);
    }

    public FuseFileSystem FileSystem { get; }

    public IFuseConnection Connection { get; }

    public FuseSessionOptions Options => _options;

    /// <summary>Payload bytes that every request's buffer holds.</summary>
    public int Capacity { get; }

    /// <summary>Set by INIT.</summary>
    public FuseConnectionInfo? Info { get; set; }

    /// <summary>Completes when INIT has been answered; fails when it could not be agreed on.</summary>
    public Task Initialized => _initialized.Task;

    public TaskCompletionSource InitializedSource => _initialized;

    /// <summary>Waits for what is in flight, then runs the file system's destroy hook; once, whoever asks.</summary>
    public Task DestroyAsync()
    {
        _destroying = true;
        return _destroyed.Value;
    }

    /// <summary>Completes when everything now in flight has been answered.</summary>
    public Task DrainAsync(CancellationToken cancellationToken) =>
        _drain.WaitAsync(exceptDestroy: false, cancellationToken);

    /// <summary>Serves one request.</summary>
    /// <param name="request">Its bytes are in the buffer from <paramref name="start"/> on.</param>
    /// <param name="sink">Where the reply goes.</param>
    /// <param name="start">Offset in the buffer.</param>
    /// <param name="length">Bytes received.</param>
    /// <returns>True: answered, the request may be used again. False: it has suspended; the sink's Recycle will be
    /// called.</returns>
    public bool Process(FuseRequest request, IFuseReplySink sink, int start, int length)
    {
        if (!request.Attach(sink, start, length))
        {
            Warn($"A request of {length} bytes is shorter than its header; dropped.", null);
            return true;
        }
        request.Counters.Requests++;
        FuseOperation? operation = FuseOperation.Find(request.Opcode);
        request.Operation = operation;
        _options.Tracer?.Request(
            request.Unique, operation?.Name ?? $"OP{(uint)request.Opcode}", request.NodeId, length);
        if (operation is null)
        {
            return ReplyError(request, Errno.ENOSYS);
        }
        if (request.BodyLength < 0)
        {
            return ReplyError(request, Errno.EIO);
        }
        if (request.BodyLength < operation.MinimumBody)
        {
            return ReplyError(request, Errno.EINVAL);
        }
        bool outOfTurn = _destroying || (Info is null) != (request.Opcode == FuseOpcode.FUSE_INIT);
        if (outOfTurn && (operation.Traits & FuseOperationTraits.Control) == 0)
        {
            return ReplyError(request, Errno.EIO);
        }
        return Dispatch(request, operation);
    }

    private bool Dispatch(FuseRequest request, FuseOperation operation)
    {
        bool control = (operation.Traits & FuseOperationTraits.Control) != 0;
        if (!control)
        {
            request.Begin();
        }
        bool completed;
        try
        {
            var body = new FuseBodyReader(request.Body);
            completed = operation.Handler(this, request, ref body);
        }
        catch (Exception e)
        {
            completed = ReplyException(request, e);
        }
        if (completed && !control)
        {
            End(request);
        }
        return completed;
    }

    private void End(FuseRequest request)
    {
        ulong unique = request.Unique;
        request.End();
        _drain.Completed(request, unique);
    }

    /// <summary>Answers now if the task is done, and later otherwise. The task is consumed.</summary>
    public bool Finish<T>(FuseRequest request, ValueTask<T> task, Action<FuseServer, FuseRequest, T> complete)
    {
        if (task.IsCompletedSuccessfully)
        {
            complete(this, request, task.Result);
            return true;
        }
        request.Counters.Suspended++;
        _ = FinishLaterAsync(request, task, complete);
        return false;
    }

    private async Task FinishLaterAsync<T>(
        FuseRequest request, ValueTask<T> task, Action<FuseServer, FuseRequest, T> complete)
    {
        try
        {
            complete(this, request, await task.ConfigureAwait(false));
        }
        catch (Exception e)
        {
            ReplyException(request, e);
        }
        if ((request.Operation!.Traits & FuseOperationTraits.Control) == 0)
        {
            End(request);
        }
        request.Sink.Recycle(request);
    }

    // ---- replies: all return true, "completed" ------------------------------------------------------------------

    /// <summary>Answers 0 or a negated errno without payload.</summary>
    public bool ReplyStatus(FuseRequest request, long status) =>
        status < 0 ? ReplyError(request, ErrnoOf(request, status)) : Reply(request, 0);

    /// <summary>Answers with a positive errno. Operations that have no reply get none.</summary>
    public bool ReplyError(FuseRequest request, int errno)
    {
        request.Counters.Errors++;
        request.ReplyStart = FuseBuffer.PayloadStart;
        if (request.Operation is { } operation && (operation.Traits & FuseOperationTraits.NoReply) != 0)
        {
            return true;
        }
        return Send(request, -errno, 0);
    }

    /// <summary>Answers success with <paramref name="size"/> bytes that are already in the reply payload.</summary>
    public bool Reply(FuseRequest request, int size)
    {
        request.Touched = Math.Max(request.Touched, request.ReplyStart + size - FuseBuffer.PayloadStart);
        return Send(request, 0, size);
    }

    /// <summary>INTERRUPT may be answered, with EAGAIN only.</summary>
    public bool ReplyAgain(FuseRequest request) => Send(request, -Errno.EAGAIN, 0);

    /// <summary>Answers what an exception means.</summary>
    public bool ReplyException(FuseRequest request, Exception exception)
    {
        int errno = FileSystem.MapException(exception);
        if (exception is not (FuseException or OperationCanceledException or ErrnoException))
        {
            Warn($"{request.Operation?.Name} of inode {request.NodeId} failed and is answered "
                + Errno.Format(errno), exception);
        }
        return request.Replied || ReplyError(request, errno is > 0 and < 4096 ? errno : Errno.EIO);
    }

    /// <summary>The file system answered more than was asked for: our caller's bug, not the kernel's.</summary>
    public bool ReplyOverrun(FuseRequest request, long count)
    {
        Warn($"{request.Operation?.Name} of inode {request.NodeId} answered {count} where at most {request.Expected} "
            + "is possible.", null);
        return ReplyError(request, Errno.EIO);
    }

    private int ErrnoOf(FuseRequest request, long status)
    {
        if (status > -4096)
        {
            return (int)-status;
        }
        Warn($"{request.Operation?.Name} of inode {request.NodeId} answered {status}, which is no errno.", null);
        return Errno.EIO;
    }

    private bool Send(FuseRequest request, int error, int size)
    {
        request.Replied = true;
        int start = request.ReplyStart - WireSize.OutHeader;
        int length = WireSize.OutHeader + size;
        WireWriter.OutHeader(request.Buffer.Whole.Span[start..], length, error, request.Unique);
        int result = request.Sink.Send(request, start, length);
        if (result < 0)
        {
            SendFailed(request, -result);
        }
        _options.Tracer?.Reply(request.Unique, request.Operation?.Name ?? "?", error, length);
        return true;
    }

    private void SendFailed(FuseRequest request, int errno)
    {
        // ENOENT: the caller gave up; ENODEV: unmounted meanwhile. Neither is anybody's fault.
        if (errno is not (Errno.ENOENT or Errno.ENODEV or Errno.ECONNABORTED))
        {
            Warn($"The kernel refused the reply to {request.Operation?.Name} of inode {request.NodeId}: "
                + Errno.Format(errno), null);
        }
    }

    public void Warn(string message, Exception? exception) => _options.Warning?.Invoke(message, exception);

    // ---- INTERRUPT, DESTROY -------------------------------------------------------------------------------------

    /// <summary>Cancels the request in flight with this number. False: there is none.</summary>
    public bool Interrupt(ulong unique)
    {
        IReadOnlyList<FuseRequest> requests = _requests();
        for (int i = 0; i < requests.Count; i++)
        {
            if (requests[i].TryInterrupt(unique))
            {
                return true;
            }
        }
        return false;
    }

    private async Task DestroyOnceAsync()
    {
        await _drain.WaitAsync(exceptDestroy: true, CancellationToken.None).ConfigureAwait(false);
        await FileSystem.DestroyAsync().ConfigureAwait(false);
    }

    /// <summary>Sums the counters of all places.</summary>
    public FuseCounters Counters()
    {
        var sum = new FuseCounters();
        foreach (FuseRequest place in _requests())
        {
            FusePlaceCounters c = place.Counters;
            sum = sum with
            {
                Requests = sum.Requests + c.Requests,
                Errors = sum.Errors + c.Errors,
                Suspended = sum.Suspended + c.Suspended,
                Interrupted = sum.Interrupted + c.Interrupted,
                Reads = sum.Reads + c.Reads,
                ReadBytes = sum.ReadBytes + c.ReadBytes,
                Writes = sum.Writes + c.Writes,
                WriteBytes = sum.WriteBytes + c.WriteBytes,
                InFlight = sum.InFlight + (place.InFlight != 0 ? 1 : 0),
                Buffers = sum.Buffers + 1,
                BufferBytes = sum.BufferBytes + place.Buffer.Length,
            };
        }
        return sum;
    }
}
