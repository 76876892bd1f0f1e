using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Gluster;

/// <summary>
/// A disk that is a file in a GlusterFS volume. Requests go through the link, which may be opening the file again; what the
/// bricks acknowledged and have not flushed is kept in the log until they have.
/// </summary>
/// <remarks>
/// The size: nothing makes it durable except a flush. So the size at the last flush and one that is being set are
/// remembered; a file that comes back with either gets the present one again. Any other size means that somebody else has
/// changed the file, and it is not used any more.
/// </remarks>
internal sealed class GlusterDevice : BlockDevice, IHasIdentity, IWaitsForPeer
{
    /// <summary>One request; longer transfers are split and go at once.</summary>
    private const int MaxRequest = 1 << 20;

    /// <summary>Zeroing that may take long is done in steps, each of which counts as progress.</summary>
    private const long SlowStep = 16 << 20;

    /// <summary>Writes are replayed this many at a time.</summary>
    private const int ReplayDepth = 16;

    /// <summary>A request that fails for no known reason is sent again so often.</summary>
    private const int MaxUnclear = 32;

    private readonly GlusterConnector _connector;
    private readonly GlusterOptions _options;
    private readonly RemoteLink<GlusterSession> _link;
    private readonly UnflushedWrites _log;
    private readonly RangeReader _reader;
    private readonly SemaphoreSlim _oneResize = new(1, 1);
    private readonly bool _writable;
    private volatile bool _cannotZero;
    private volatile bool _cannotDiscard;
    private long _length;
    private long _durableLength;
    private long _wantedLength;

    private GlusterDevice(
        GlusterConnector connector, GlusterOptions options, RemoteLink<GlusterSession> link, UnflushedWrites log,
        OpenFlags flags, GlusterSession session)
    {
        _connector = connector;
        _options = options;
        _link = link;
        _log = log;
        _writable = flags.Writable;
        _length = _durableLength = _wantedLength = session.Size;
        Capabilities = (session.KnowsHoles ? BlockCapabilities.Map : 0)
            | (_writable ? BlockCapabilities.Write | BlockCapabilities.Resize | BlockCapabilities.Zero : 0)
            | (_writable && flags.Discard ? BlockCapabilities.Discard : 0);
        _reader = new RangeReader(
            FetchAsync, () => Length, new RangeReaderOptions { BlockSize = 256 << 10, SplitSize = 256 << 10 });
    }

    /// <inheritdoc/>
    public override long Length => Volatile.Read(ref _length);

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities { get; }

    /// <inheritdoc/>
    public override BlockLimits Limits { get; } = BlockLimits.Default with { OptimalTransfer = 128 << 10 };

    /// <inheritdoc/>
    public string Identity => GlusterUri.Format(_options);

    /// <summary>Connects and opens the file.</summary>
    public static async Task<GlusterDevice> OpenAsync(
        GlusterConnector connector, LinkPolicy policy, GlusterOptions options, OpenFlags flags,
        CancellationToken cancellationToken)
    {
        GlusterDevice? device = null;
        var log = new UnflushedWrites(UnflushedWrites.DefaultMaxBytes, token => device!.FlushAsync(token).AsTask());
        var link = new RemoteLink<GlusterSession>(
            connector.Peer, policy, token => connector.OpenAsync(flags.Writable, token),
            (lease, _) => device!.RestoreAsync(lease));
        try
        {
            GlusterSession session = await link.OpenAsync(cancellationToken).ConfigureAwait(false);
            device = new GlusterDevice(connector, options, link, log, flags, session);
            return device;
        }
        catch
        {
            await link.DisposeAsync().ConfigureAwait(false);
            connector.Release();
            throw;
        }
    }

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        _reader.ReadAsync(offset, buffer, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        GlusterOutcome outcome = await ChangeAsync(
            ChangeKind.Data, offset, buffer.Length,
            session => WriteAsync(session, offset, buffer, cancellationToken), buffer, cancellationToken)
            .ConfigureAwait(false);
        ThrowIfRefused(outcome, "cannot write", offset);
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        // A hole that is punched reads as zeroes on every brick.
        bool mayUnmap = (flags & ZeroFlags.MayUnmap) != 0 && (Capabilities & BlockCapabilities.Discard) != 0;
        return (mayUnmap && await TryDiscardAsync(offset, count, cancellationToken).ConfigureAwait(false))
            || (!_cannotZero
                && await TryInStepsAsync(ChangeKind.Zero, offset, count, cancellationToken).ConfigureAwait(false));
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryDiscardAsync(long offset, long count, CancellationToken cancellationToken) =>
        (Capabilities & BlockCapabilities.Discard) != 0 && !_cannotDiscard
            && await TryInStepsAsync(ChangeKind.Discard, offset, count, cancellationToken).ConfigureAwait(false);

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        long mark = _log.Mark();
        long length = Length;
        if (_log.IsEmpty && length == Volatile.Read(ref _durableLength))
        {
            return; // All that was acknowledged is durable already.
        }

        var trouble = new Tries();
        while (true)
        {
            LinkLease<GlusterSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
            GlusterOutcome outcome = await lease.Session.FlushAsync().ConfigureAwait(false);
            if (outcome.IsOk)
            {
                _log.Flushed(mark, lease.Generation);
                _log.Mark(); // Restoring may have failed meanwhile.
                Volatile.Write(ref _durableLength, length);
                return;
            }

            if (outcome.End == GlusterEnd.Refused)
            {
                BlockException refused = GlusterErrors.Refused(outcome.Errno, "cannot flush");
                _log.ReportLost(refused);
                throw refused;
            }

            await AgainAsync("cannot flush", outcome, lease, null, trouble).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        LinkLease<GlusterSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
        return await lease.Session.MapAsync(offset, count).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        await _oneResize.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            long before = Length;
            bool shrinks = newLength < before;
            if (shrinks)
            {
                // So that no write beyond the new end is repeated after it.
                await FlushAsync(cancellationToken).ConfigureAwait(false);
            }

            Volatile.Write(ref _wantedLength, newLength);
            try
            {
                await SetSizeAsync(newLength, cancellationToken).ConfigureAwait(false);
                Volatile.Write(ref _length, newLength);
            }
            finally
            {
                Volatile.Write(ref _wantedLength, Length);

                // The block that ends at the old end too: it is shorter than the one that is there now.
                long from = Math.Max(0, Math.Min(newLength, before) - 1);
                _reader.Invalidate(from, long.MaxValue - from);
            }

            if (shrinks)
            {
                await FlushAsync(cancellationToken).ConfigureAwait(false);
            }

            return true;
        }
        finally
        {
            _oneResize.Release();
        }
    }

    /// <inheritdoc/>
    public void StopWaiting(TimeSpan grace) => _link.StopWaiting(grace);

    /// <inheritdoc/>
    public override async ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        LinkLease<GlusterSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
        info.ActualSize = await lease.Session.GetAllocatedAsync().ConfigureAwait(false);
        info.FormatSpecific.Add(new("volume", _options.Volume));
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        try
        {
            if (_writable)
            {
                await FlushAsync(CancellationToken.None).ConfigureAwait(false);
            }
        }
        finally
        {
            Task stopping = _reader.StopAsync().AsTask();
            await _link.DisposeAsync().ConfigureAwait(false);
            await stopping.ConfigureAwait(false);
            _connector.Release();
            _log.Dispose();
            _oneResize.Dispose();
        }
    }

    /// <summary>Writes, in as many requests as it takes, all at once. The first that failed is the answer.</summary>
    private static async ValueTask<GlusterOutcome> WriteAsync(
        GlusterSession session, long offset, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        if (data.Length <= MaxRequest)
        {
            return await WritePartAsync(session, offset, data, cancellationToken).ConfigureAwait(false);
        }

        var parts = new List<Task<GlusterOutcome>>();
        for (int at = 0; at < data.Length; at += MaxRequest)
        {
            ReadOnlyMemory<byte> part = data.Slice(at, Math.Min(MaxRequest, data.Length - at));
            parts.Add(WritePartAsync(session, offset + at, part, cancellationToken).AsTask());
        }

        GlusterOutcome[] outcomes = await Task.WhenAll(parts).ConfigureAwait(false);
        return outcomes.FirstOrDefault(outcome => !outcome.IsOk, outcomes[0]);
    }

    /// <summary>One request, and more where the volume takes only a part of it.</summary>
    private static async ValueTask<GlusterOutcome> WritePartAsync(
        GlusterSession session, long offset, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        while (true)
        {
            GlusterOutcome outcome = await session.ChangeAsync(
                GfapiOperation.Write, offset, data.Length, data, cancellationToken).ConfigureAwait(false);
            if (!outcome.IsOk || outcome.Result >= data.Length)
            {
                return outcome;
            }

            if (outcome.Result == 0)
            {
                return new GlusterOutcome(GlusterEnd.Refused, 0, Errno.EIO);
            }

            offset += outcome.Result;
            data = data[(int)outcome.Result..];
        }
    }

    private static GfapiOperation OperationOf(ChangeKind kind) => kind switch
    {
        ChangeKind.Data => GfapiOperation.Write,
        ChangeKind.Discard => GfapiOperation.Discard,
        _ => GfapiOperation.Zero,
    };

    private static void ThrowIfRefused(in GlusterOutcome outcome, string operation, long? offset)
    {
        if (outcome.End == GlusterEnd.Refused)
        {
            throw GlusterErrors.Refused(outcome.Errno, operation, offset);
        }
    }

    /// <summary>Zeroes or discards; false: the volume cannot, and nothing happened.</summary>
    private async ValueTask<bool> TryInStepsAsync(
        ChangeKind kind, long offset, long count, CancellationToken cancellationToken)
    {
        for (long done = 0; done < count; done += SlowStep)
        {
            long at = offset + done;
            long step = Math.Min(SlowStep, count - done);
            GlusterOutcome outcome = await ChangeAsync(
                kind, at, step,
                session => session.ChangeAsync(OperationOf(kind), at, step, default, cancellationToken), default,
                cancellationToken).ConfigureAwait(false);
            if (done == 0 && outcome.Errno is Errno.EOPNOTSUPP or Errno.ENOSYS)
            {
                _cannotDiscard |= kind == ChangeKind.Discard;
                _cannotZero |= kind != ChangeKind.Discard;
                return false;
            }

            ThrowIfRefused(outcome, kind == ChangeKind.Discard ? "cannot discard" : "cannot zero", at);
        }

        return true;
    }

    /// <summary>Sends a change until it is acknowledged or refused, and enters it in the log.</summary>
    private async ValueTask<GlusterOutcome> ChangeAsync(
        ChangeKind kind, long offset, long count, Func<GlusterSession, ValueTask<GlusterOutcome>> send,
        ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        long ticket = await _log.BeginAsync(offset, count, cancellationToken).ConfigureAwait(false);
        bool isEntered = false;
        var trouble = new Tries();
        try
        {
            _reader.Invalidate(offset, count);
            while (true)
            {
                LinkLease<GlusterSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
                GlusterOutcome outcome = await send(lease.Session).ConfigureAwait(false);
                lease.Session.NoteChange();
                if (outcome.IsOk && _log.TryAcknowledge(ticket, lease.Generation, kind, data, isDurable: false))
                {
                    isEntered = true;
                    return outcome;
                }

                if (outcome.End == GlusterEnd.Refused)
                {
                    return outcome;
                }

                await AgainAsync("cannot write", outcome, lease, offset, trouble).ConfigureAwait(false);
            }
        }
        finally
        {
            if (!isEntered)
            {
                _log.Abandon(ticket);
            }

            _reader.Invalidate(offset, count);
        }
    }

    private async Task SetSizeAsync(long newLength, CancellationToken cancellationToken)
    {
        var trouble = new Tries();
        while (true)
        {
            LinkLease<GlusterSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
            GlusterOutcome outcome = await lease.Session.ChangeAsync(
                GfapiOperation.Truncate, newLength, 0, default, cancellationToken).ConfigureAwait(false);
            lease.Session.NoteChange();
            if (outcome.IsOk)
            {
                return;
            }

            await AgainAsync("cannot set the size of the file", outcome, lease, null, trouble).ConfigureAwait(false);
        }
    }

    /// <summary>Reads in one request, and more where the volume answers with less; for the reader.</summary>
    private async ValueTask FetchAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var trouble = default(Tries);
        while (true)
        {
            LinkLease<GlusterSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
            GlusterOutcome outcome = await lease.Session.ReadAsync(
                offset, buffer[..Math.Min(buffer.Length, MaxRequest)], cancellationToken).ConfigureAwait(false);
            if (outcome.IsOk)
            {
                int count = (int)outcome.Result;
                if (count == 0)
                {
                    throw GlusterErrors.Shorter(offset);
                }

                offset += count;
                buffer = buffer[count..];
                if (buffer.IsEmpty)
                {
                    return;
                }

                continue;
            }

            await AgainAsync("cannot read", outcome, lease, offset, trouble ??= new Tries()).ConfigureAwait(false);
        }
    }

    /// <summary>Returns when a request is to be sent again; throws when it is not.</summary>
    private async Task AgainAsync(
        string operation, GlusterOutcome outcome, LinkLease<GlusterSession> lease, long? offset, Tries trouble)
    {
        switch (outcome.End)
        {
            case GlusterEnd.Refused:
                throw GlusterErrors.Refused(outcome.Errno, operation, offset);
            case GlusterEnd.Cancelled:
                throw new BlockException(BlockErrorKind.Cancelled, "the request was cancelled");
            case GlusterEnd.Ok:
                return; // Acknowledged by a session that does not count any more.
            case GlusterEnd.Unclear when ++trouble.Unclear > MaxUnclear:
                throw GlusterErrors.Refused(outcome.Errno, operation, offset);
            case GlusterEnd.Unclear:
                return;
            default:
                bool mayRetry = _link.MayRetry(ref trouble.FirstLoss);
                BlockException reason = await lease.Session.Ended.ConfigureAwait(false);
                if (!mayRetry)
                {
                    throw _link.Lost(reason);
                }

                return;
        }
    }

    /// <summary>Brings a new session to where the old one was.</summary>
    private async Task RestoreAsync(LinkLease<GlusterSession> lease)
    {
        GlusterSession session = lease.Session;
        bool isOurs = session.Size == Length || (_writable
            && (session.Size == Volatile.Read(ref _durableLength) || session.Size == Volatile.Read(ref _wantedLength)));
        if (!isOurs)
        {
            throw new BlockException(BlockErrorKind.InvalidData, "the volume came back with another file")
            {
                Found = $"{session.Size} bytes",
                Expected = $"{Length} bytes",
            };
        }

        if (session.Size != Length)
        {
            GlusterOutcome outcome = await session.ChangeAsync(
                GfapiOperation.Truncate, Length, 0, default, CancellationToken.None).ConfigureAwait(false);
            if (!outcome.IsOk)
            {
                throw new BlockException(BlockErrorKind.IoError, "the size of the file could not be set again");
            }
        }

        await _log.ReplayAsync(lease.Generation, change => ReplayAsync(session, change), ReplayDepth).ConfigureAwait(false);
    }

    private static async Task<BlockException?> ReplayAsync(GlusterSession session, UnflushedWrite change)
    {
        long step = change.Kind == ChangeKind.Data ? change.Count : SlowStep;
        int unclear = 0;
        for (long done = 0; done < change.Count;)
        {
            long at = change.Offset + done;
            long count = Math.Min(step, change.Count - done);
            GlusterOutcome outcome = await (change.Kind == ChangeKind.Data
                ? WriteAsync(session, at, change.Data, CancellationToken.None)
                : session.ChangeAsync(OperationOf(change.Kind), at, count, default, CancellationToken.None))
                .ConfigureAwait(false);
            if (outcome.End == GlusterEnd.Refused || (outcome.End == GlusterEnd.Unclear && ++unclear > MaxUnclear))
            {
                return GlusterErrors.Refused(outcome.Errno, "cannot write", at);
            }

            if (outcome.End == GlusterEnd.Lost)
            {
                throw new BlockException(BlockErrorKind.IoError, "the connection broke again while writes were repeated");
            }

            done += outcome.IsOk ? count : 0;
        }

        return null;
    }

    /// <summary>What a request has been through.</summary>
    private sealed class Tries
    {
        public long FirstLoss;

        public int Unclear;
    }
}
