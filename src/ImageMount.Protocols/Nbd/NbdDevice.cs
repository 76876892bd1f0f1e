using System.Runtime.CompilerServices;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Nbd;

/// <summary>
/// A disk behind an NBD server. Requests go through the link, which may be making the connection again; what the server
/// acknowledged and has not flushed is kept in the log until it has.
/// </summary>
internal sealed class NbdDevice : BlockDevice, IHasIdentity, IWaitsForPeer, IPrefetch, IRemoteFile
{
    /// <summary>Zeroing that may take long is done in steps, each of which counts as progress.</summary>
    private const long SlowStep = 16 << 20;

    /// <summary>Writes are replayed this many at a time.</summary>
    private const int ReplayDepth = 16;

    private readonly NbdConnector _connector;
    private readonly NbdOptions _options;
    private readonly RemoteLink<NbdSession> _link;
    private readonly UnflushedWrites _log;
    private readonly RequestSender<NbdSession, NbdOutcome> _sender;
    private readonly RangeReader _reader;
    private readonly ExtentsAhead _extents = new();
    private readonly bool _writable;
    private readonly NbdExport _export;
    private bool _noFastZero;

    private NbdDevice(
        NbdConnector connector, NbdOptions options, RemoteLink<NbdSession> link, UnflushedWrites log, OpenFlags flags,
        NbdExport export)
    {
        _connector = connector;
        _options = options;
        _link = link;
        _log = log;
        _export = export;
        _sender = new RequestSender<NbdSession, NbdOutcome>(link, log, Forget);
        _writable = flags.Writable;
        Capabilities = (export.Context is not null ? BlockCapabilities.Map : 0)
            | (_writable ? WriteCapabilities(export, flags.Discard) : 0);
        int alignment = export.MinBlock > 0 ? export.MinBlock : export.Size % 512 == 0 ? 512 : 1;
        Limits = BlockLimits.Default with
        {
            RequestAlignment = alignment,
            MaxTransfer = export.MaxPayload,
            OptimalTransfer = Math.Max(export.PreferredBlock, 4096),
            MaxZero = export.MaxRange,
        };
        int split = Math.Min(1 << 20, export.MaxPayload);
        _reader = new RangeReader(FetchAsync, () => Length, new RangeReaderOptions
        {
            BlockSize = Math.Min(256 << 10, split),
            SplitSize = split,
        });
    }

    /// <inheritdoc/>
    public override long Length => _export.Size;

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities { get; }

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public string Identity => NbdUri.Format(_options);

    /// <inheritdoc/>
    /// <remarks>The protocol has nothing of that kind: an export may be another one after every connection.</remarks>
    public RemoteVersion? Version => null;

    /// <inheritdoc/>
    public bool ChecksEveryRead => true;

    /// <inheritdoc/>
    public ValueTask<bool> IsUnchangedAsync(CancellationToken cancellationToken) => new(true);

    /// <summary>Connects.</summary>
    public static async Task<NbdDevice> OpenAsync(
        NbdConnector connector, LinkPolicy policy, NbdOptions options, OpenFlags flags, CancellationToken cancellationToken)
    {
        NbdDevice? device = null;
        var log = new UnflushedWrites(UnflushedWrites.DefaultMaxBytes, token => device!.FlushAsync(token).AsTask());
        var link = new RemoteLink<NbdSession>(
            connector.Peer, policy,
            async token => new NbdSession(
                await connector.ConnectAsync(token).ConfigureAwait(false), connector, options.Connections),
            (lease, _) => device!.RestoreAsync(lease));
        try
        {
            NbdSession session = await link.OpenAsync(cancellationToken).ConfigureAwait(false);
            if (flags.Writable && session.Export.Can(NbdExportFlags.ReadOnly))
            {
                throw new BlockException(BlockErrorKind.ReadOnly, "the server exports this for reading only")
                {
                    Hint = "Add --read-only, or --snapshot to keep changes elsewhere.",
                };
            }

            if (options.DirtyBitmap is { } context && session.Export.Context is null)
            {
                throw new BlockException(BlockErrorKind.NotFound, $"the server does not offer the context '{context}'");
            }

            device = new NbdDevice(connector, options, link, log, flags, session.Export);
            return device;
        }
        catch
        {
            await link.DisposeAsync().ConfigureAwait(false);
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
        bool fua = (flags & WriteFlags.Fua) != 0;
        NbdOutcome outcome = await ChangeAsync(
            ChangeKind.Data, NbdCommand.Write, fua ? NbdCommandFlags.Fua : NbdCommandFlags.None, offset, buffer.Length,
            buffer, fua, cancellationToken).ConfigureAwait(false);
        ThrowIfRefused(outcome, "cannot write", offset);
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        if ((Capabilities & BlockCapabilities.Zero) == 0)
        {
            return false;
        }

        bool mayUnmap = (flags & ZeroFlags.MayUnmap) != 0;
        ChangeKind kind = mayUnmap ? ChangeKind.ZeroMayUnmap : ChangeKind.Zero;
        if (_export.Can(NbdExportFlags.SendFastZero) && !Volatile.Read(ref _noFastZero))
        {
            NbdOutcome fast = await ChangeAsync(
                kind, NbdCommand.WriteZeroes, ZeroFlagsOf(kind) | NbdCommandFlags.FastZero, offset, count, default, false,
                cancellationToken).ConfigureAwait(false);
            if (fast.IsOk)
            {
                return true;
            }

            if (fast.Error != Errno.EOPNOTSUPP)
            {
                ThrowIfRefused(fast, "cannot zero", offset);
            }

            Volatile.Write(ref _noFastZero, true);
        }

        // Slow on the server, but without the bytes on the wire.
        for (long done = 0; done < count; done += SlowStep)
        {
            long step = Math.Min(SlowStep, count - done);
            NbdOutcome outcome = await ChangeAsync(
                kind, NbdCommand.WriteZeroes, ZeroFlagsOf(kind), offset + done, step, default, false, cancellationToken)
                .ConfigureAwait(false);
            if (done == 0 && outcome.Error is Errno.EOPNOTSUPP or Errno.EINVAL)
            {
                return false; // It offers what it cannot do for this range; writing zeroes will do.
            }

            ThrowIfRefused(outcome, "cannot zero", offset + done);
        }

        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryDiscardAsync(long offset, long count, CancellationToken cancellationToken)
    {
        if ((Capabilities & BlockCapabilities.Discard) == 0)
        {
            return false;
        }

        NbdOutcome outcome = await ChangeAsync(
            ChangeKind.Discard, NbdCommand.Trim, NbdCommandFlags.None, offset, count, default, false, cancellationToken)
            .ConfigureAwait(false);
        if (outcome.Error is Errno.EOPNOTSUPP or Errno.EINVAL)
        {
            return false;
        }

        ThrowIfRefused(outcome, "cannot discard", offset);
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        long mark = _log.Mark();
        if (_log.IsEmpty)
        {
            return; // All that was acknowledged is durable already.
        }

        await _sender.FlushAsync(
            mark,
            session => SendAsync(
                session, NbdCommand.Flush, NbdCommandFlags.None, 0, 0, default, default, CancellationToken.None),
            static outcome => NbdErrors.Refused("cannot flush", outcome.Error, outcome.Message, null),
            cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        if (_extents.TryTake(offset, count, out BlockExtent known))
        {
            return known;
        }

        long firstLoss = 0;
        while (true)
        {
            LinkLease<NbdSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
            if (lease.Session.Export.Context is null)
            {
                return new BlockExtent(count, ExtentFlags.Data | ExtentFlags.Present);
            }

            long version = _extents.Version;
            long asked = Math.Min(count, lease.Session.Export.MaxRange);
            (NbdOutcome outcome, NbdStatus[] answer) = await lease.Session.StatusAsync(offset, asked).ConfigureAwait(false);
            if (outcome.IsOk)
            {
                BlockExtent[] extents = Array.ConvertAll(answer, ExtentOf);
                _extents.Keep(offset, extents, version);
                return extents[0];
            }

            ThrowIfRefused(outcome, "cannot tell the state of the disk", offset);
            EndIfShuttingDown(lease.Session, outcome);
            await _sender.AgainAsync(outcome.Outcome, lease, ref firstLoss).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public async ValueTask<bool> TryPrefetchAsync(long offset, long count, CancellationToken cancellationToken)
    {
        if (!_export.Can(NbdExportFlags.SendCache))
        {
            return false;
        }

        LinkLease<NbdSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
        for (long done = 0; done < count; done += Limits.MaxTransfer)
        {
            NbdOutcome outcome = await lease.Session.RequestAsync(
                NbdCommand.Cache, NbdCommandFlags.None, offset + done, Math.Min(Limits.MaxTransfer, count - done), default,
                default, cancellationToken).ConfigureAwait(false);
            if (!outcome.IsOk)
            {
                return false;
            }
        }

        return true;
    }

    /// <inheritdoc/>
    public void StopWaiting(TimeSpan grace) => _link.StopWaiting(grace);

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ActualSize = null;
        info.FormatSpecific.Add(new("protocol", _export.Style
            + (_export.IsExtended ? ", extended headers" : _export.IsStructured ? ", structured replies" : "")));
        info.FormatSpecific.Add(new("flags", _export.Flags.ToString()));
        if (_export.Description is { } description)
        {
            info.FormatSpecific.Add(new("description", description));
        }

        return default;
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
            _log.Dispose();
        }
    }

    private static BlockCapabilities WriteCapabilities(NbdExport export, bool mayDiscard) =>
        BlockCapabilities.Write
        | (export.Can(NbdExportFlags.SendWriteZeroes) ? BlockCapabilities.Zero : 0)
        | (mayDiscard && export.Can(NbdExportFlags.SendTrim) ? BlockCapabilities.Discard : 0)
        | (export.Can(NbdExportFlags.SendFua) ? BlockCapabilities.Fua : 0);

    private static NbdCommandFlags ZeroFlagsOf(ChangeKind kind) =>
        kind == ChangeKind.ZeroMayUnmap ? NbdCommandFlags.None : NbdCommandFlags.NoHole;

    private static void ThrowIfRefused(NbdOutcome outcome, string operation, long offset)
    {
        if (outcome.Kind == NbdOutcomeKind.Refused)
        {
            throw NbdErrors.Refused(operation, outcome.Error, outcome.Message, offset);
        }
    }

    /// <summary>Reads in one request; for the reader.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask FetchAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        NbdOutcome outcome = await _sender.SendAsync(
            static (session, part, token) => part.Device.SendAsync(
                session, NbdCommand.Read, NbdCommandFlags.None, part.Offset, part.Buffer.Length, part.Buffer, default, token),
            (Device: this, Offset: offset, Buffer: buffer), cancellationToken).ConfigureAwait(false);
        ThrowIfRefused(outcome, "cannot read", offset);
    }

    /// <summary>Sends a change until it is acknowledged or refused, and enters it in the log.</summary>
    private ValueTask<NbdOutcome> ChangeAsync(
        ChangeKind kind, NbdCommand command, NbdCommandFlags flags, long offset, long count, ReadOnlyMemory<byte> data,
        bool isDurable, CancellationToken cancellationToken)
    {
        isDurable |= !_export.Can(NbdExportFlags.SendFlush); // Without flushes there is nothing to wait for.
        var change = new RemoteChange(kind, offset, count, data, isDurable);
        return _sender.ChangeAsync(
            change,
            static (session, sent, token) => sent.Device.SendAsync(
                session, sent.Command, sent.Flags, sent.Change.Offset, sent.Change.Count, default, sent.Change.Data, token),
            (Device: this, Command: command, Flags: flags, Change: change), cancellationToken);
    }

    private void Forget(long offset, long count)
    {
        _reader.Invalidate(offset, count);
        _extents.Forget();
    }

    /// <summary>Sends a request once.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<NbdOutcome> SendAsync(
        NbdSession session, NbdCommand command, NbdCommandFlags flags, long offset, long count, Memory<byte> target,
        ReadOnlyMemory<byte> payload, CancellationToken cancellationToken)
    {
        NbdOutcome outcome = await session.RequestAsync(command, flags, offset, count, target, payload, cancellationToken)
            .ConfigureAwait(false);
        EndIfShuttingDown(session, outcome);
        return outcome;
    }

    /// <summary>A server that is about to end takes nothing more: another session is needed.</summary>
    private void EndIfShuttingDown(NbdSession session, NbdOutcome outcome)
    {
        if (outcome.Kind == NbdOutcomeKind.ShuttingDown)
        {
            session.Abort(new BlockException(BlockErrorKind.IoError, $"{_connector.Peer} is shutting down"));
        }
    }

    private BlockExtent ExtentOf(NbdStatus status)
    {
        if (_options.DirtyBitmap is not null)
        {
            // As qemu-img shows it: what is dirty is "no data". Never as a hole: it is not one.
            return new BlockExtent(
                status.Length, ExtentFlags.Present | ((status.Flags & 1) == 0 ? ExtentFlags.Data : ExtentFlags.None));
        }

        bool isZero = (status.Flags & 2) != 0;
        bool isHole = (status.Flags & 1) != 0;
        return new BlockExtent(status.Length, ExtentFlags.Present | (isZero, isHole) switch
        {
            (true, true) => ExtentFlags.Zero,
            (true, false) => ExtentFlags.Zero | ExtentFlags.Data,
            _ => ExtentFlags.Data, // A hole that need not read as zeroes is data to us.
        });
    }

    /// <summary>Brings a new session to where the old one was.</summary>
    private async Task RestoreAsync(LinkLease<NbdSession> lease)
    {
        NbdExport now = lease.Session.Export;
        NbdExportFlags needed = _export.Flags & ~(NbdExportFlags.Rotational | NbdExportFlags.SendDf);
        if (now.Size != _export.Size || (now.Flags & needed) != needed || now.MinBlock > Limits.RequestAlignment
            || now.MaxPayload < Limits.MaxTransfer || (_writable && now.Can(NbdExportFlags.ReadOnly)))
        {
            throw new BlockException(BlockErrorKind.InvalidData, "the server came back with another export")
            {
                Found = $"{now.Size} bytes, {now.Flags}",
                Expected = $"{_export.Size} bytes, {_export.Flags}",
            };
        }

        _extents.Forget();
        await _log.ReplayAsync(lease.Generation, change => ReplayAsync(lease.Session, change), ReplayDepth)
            .ConfigureAwait(false);
    }

    private static async Task<BlockException?> ReplayAsync(NbdSession session, UnflushedWrite change)
    {
        (NbdCommand command, NbdCommandFlags flags) = change.Kind switch
        {
            ChangeKind.Data => (NbdCommand.Write, NbdCommandFlags.None),
            ChangeKind.Discard => (NbdCommand.Trim, NbdCommandFlags.None),
            _ => (NbdCommand.WriteZeroes, ZeroFlagsOf(change.Kind)),
        };

        // Zeroing may be slow; in steps it shows progress.
        long step = change.Kind == ChangeKind.Data ? change.Count : SlowStep;
        for (long done = 0; done < change.Count; done += step)
        {
            NbdOutcome outcome = await session.RequestAsync(
                command, flags, change.Offset + done, Math.Min(step, change.Count - done), default, change.Data,
                CancellationToken.None).ConfigureAwait(false);
            if (outcome.Kind == NbdOutcomeKind.Refused)
            {
                return NbdErrors.Refused("cannot write", outcome.Error, outcome.Message, change.Offset + done);
            }

            if (!outcome.IsOk)
            {
                throw new BlockException(
                    BlockErrorKind.IoError, "the connection broke again while writes were repeated");
            }
        }

        return null;
    }
}
