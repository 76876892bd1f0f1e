using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Iscsi;

/// <summary>
/// A disk that is a logical unit of an iSCSI target. Requests go through the link, which may be logging in again; what the
/// unit acknowledged and has not flushed is kept in the log until it has.
/// </summary>
internal sealed class IscsiDevice : BlockDevice, IHasIdentity, IWaitsForPeer
{
    /// <summary>Zeroing that may take long is done in steps, each of which counts as progress.</summary>
    private const long SlowStep = 16 << 20;

    /// <summary>Most that is discarded by one command, bytes, for the same reason.</summary>
    private const long LongestUnmap = 1 << 30;

    /// <summary>Largest read or write, bytes.</summary>
    private const int MaxTransfer = 1 << 20;

    /// <summary>Reads are split into pieces of this, bytes: answers come one after the other, and each is progress.</summary>
    private const int ReadSplit = 256 << 10;

    /// <summary>Writes are replayed this many at a time.</summary>
    private const int ReplayDepth = 16;

    /// <summary>Ranges that are asked about at once, and bytes of the answer.</summary>
    private const int StatusLength = 8 + (64 * 16);

    private readonly IscsiOptions _options;
    private readonly IscsiConnector _connector;
    private readonly TimeProvider _clock;
    private readonly RemoteLink<IscsiSession> _link;
    private readonly UnflushedWrites _log;
    private readonly RequestSender<IscsiSession, IscsiOutcome> _sender;
    private readonly RangeReader _reader;
    private readonly ExtentsAhead _extents = new();
    private readonly bool _writable;
    private readonly IscsiUnit _unit;
    private readonly byte[] _zeroes;
    private long _patience;
    private bool _hasFlush = true;
    private bool _noWriteSame;
    private bool _noStatus;
    private bool _isExchanged;

    private IscsiDevice(
        IscsiOptions options, IscsiConnector connector, TimeProvider clock, RemoteLink<IscsiSession> link,
        UnflushedWrites log, OpenFlags flags, IscsiUnit unit)
    {
        _options = options;
        _connector = connector;
        _clock = clock;
        _link = link;
        _log = log;
        _sender = new RequestSender<IscsiSession, IscsiOutcome>(link, log, Forget);
        _unit = unit;
        _writable = flags.Writable;
        _patience = connector.Patience.Ticks;
        _zeroes = new byte[unit.BlockLength];
        Capabilities = (unit.IsThin && unit.ReadsZero ? BlockCapabilities.Map : 0)
            | (_writable ? WriteCapabilities(unit, flags.Discard) : 0);
        long told = unit.MaxTransfer == 0 ? MaxTransfer : (long)unit.MaxTransfer * unit.BlockLength;
        int most = (int)Math.Max(Math.Min(MaxTransfer, told), unit.BlockLength);
        Limits = BlockLimits.Default with
        {
            RequestAlignment = unit.BlockLength,
            MaxTransfer = most,
            OptimalTransfer = Math.Max(4096, unit.BlockLength),
        };
        int split = Math.Max(unit.BlockLength, Math.Min(ReadSplit, most) / unit.BlockLength * unit.BlockLength);
        _reader = new RangeReader(
            FetchAsync, () => Length, new RangeReaderOptions { BlockSize = split, SplitSize = split });
    }

    /// <inheritdoc/>
    public override long Length => _unit.Length;

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities { get; }

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public string Identity => IscsiUri.Format(_options);

    /// <summary>Logs in.</summary>
    public static async Task<IscsiDevice> OpenAsync(
        IscsiOptions options, IscsiConnector connector, LinkPolicy policy, OpenFlags flags, Action<string> warn,
        CancellationToken cancellationToken)
    {
        IscsiDevice? device = null;
        var log = new UnflushedWrites(UnflushedWrites.DefaultMaxBytes, token => device!.FlushAsync(token).AsTask());
        var link = new RemoteLink<IscsiSession>(
            connector.Peer, policy, connector.ConnectAsync, (lease, _) => device!.RestoreAsync(lease));
        try
        {
            IscsiUnit unit = (await link.OpenAsync(cancellationToken).ConfigureAwait(false)).Unit;
            if (flags.Writable && unit.IsReadOnly)
            {
                throw new BlockException(
                    BlockErrorKind.ReadOnly, unit.IsCd ? "a CD cannot be written" : "the logical unit is write-protected")
                {
                    Hint = "Add --read-only, or --snapshot to keep changes elsewhere.",
                };
            }

            device = new IscsiDevice(options, connector, policy.Clock, link, log, flags, unit);
            if (flags.Writable)
            {
                await device.LookForFlushAsync(warn, cancellationToken).ConfigureAwait(false);
            }

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
        ScsiCommand command = ScsiCommand.Write(_unit.IsLarge, BlockOf(offset), (int)BlockOf(buffer.Length), fua);
        IscsiOutcome outcome = await ChangeAsync(
            ChangeKind.Data, command, offset, buffer.Length, buffer, fua, cancellationToken).ConfigureAwait(false);
        ThrowIfRefused(outcome, "cannot write", offset);
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        if (!_writable || Volatile.Read(ref _noWriteSame))
        {
            return false;
        }

        bool mayUnmap = (flags & ZeroFlags.MayUnmap) != 0 && _unit.CanWriteSameUnmap && _unit.ReadsZero;
        ChangeKind kind = mayUnmap ? ChangeKind.ZeroMayUnmap : ChangeKind.Zero;
        long most = ZeroStep();
        for (long done = 0; done < count; done += most)
        {
            long step = Math.Min(most, count - done);
            IscsiOutcome outcome = await ChangeAsync(
                kind, ScsiCommand.WriteSame(BlockOf(offset + done), BlockOf(step), mayUnmap), offset + done, step, _zeroes,
                false, cancellationToken).ConfigureAwait(false);
            if (done == 0 && IsUnknown(outcome))
            {
                Volatile.Write(ref _noWriteSame, true);
                return false;
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

        long most = DiscardStep();
        for (long done = 0; done < count; done += most)
        {
            long step = Math.Min(most, count - done);
            (ScsiCommand command, byte[] data) = DiscardOf(offset + done, step);
            IscsiOutcome outcome = await ChangeAsync(
                ChangeKind.Discard, command, offset + done, step, data, false, cancellationToken).ConfigureAwait(false);
            if (done == 0 && IsUnknown(outcome))
            {
                return false;
            }

            ThrowIfRefused(outcome, "cannot discard", offset + done);
        }

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
            mark, session => SendAsync(session, ScsiCommand.SynchronizeCache, default, default, CancellationToken.None),
            static refused => IscsiErrors.Refused("cannot flush", refused, null), cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        if (_extents.TryTake(offset, count, out BlockExtent known))
        {
            return known;
        }

        var answer = new byte[StatusLength];
        if (!Volatile.Read(ref _noStatus) && (Capabilities & BlockCapabilities.Map) != 0)
        {
            long version = _extents.Version;
            IscsiOutcome outcome = await ReadingAsync(
                ScsiCommand.GetLbaStatus(BlockOf(offset), answer.Length), answer, cancellationToken).ConfigureAwait(false);
            if (!IsUnknown(outcome))
            {
                ThrowIfRefused(outcome, "cannot tell the state of the disk", offset);
                List<BlockExtent> extents = LbaStatus.Parse(
                    answer.AsSpan(0, outcome.Count), BlockOf(offset), _unit.BlockLength, Length);
                if (extents.Count > 0)
                {
                    // Whoever asks from within a block is answered from there.
                    extents[0] = extents[0] with { Length = extents[0].Length - (offset % _unit.BlockLength) };
                    _extents.Keep(offset, CollectionsMarshal.AsSpan(extents), version);
                    return extents[0] with { Length = Math.Min(extents[0].Length, count) };
                }
            }
        }

        // The unit does not know the question, or answers another one.
        Volatile.Write(ref _noStatus, true);
        return new BlockExtent(count, ExtentFlags.Data | ExtentFlags.Present);
    }

    /// <inheritdoc/>
    public void StopWaiting(TimeSpan grace)
    {
        Volatile.Write(ref _patience, Math.Min(Volatile.Read(ref _patience), grace.Ticks));
        _link.StopWaiting(grace);
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ActualSize = null;
        info.FormatSpecific.Add(new("unit", _unit.Model + (_unit.IsCd ? " (CD)" : "")));
        info.FormatSpecific.Add(new(
            "block length", _unit.BlockLength.ToString(System.Globalization.CultureInfo.InvariantCulture)));
        info.FormatSpecific.Add(new("thin", _unit.IsThin ? "yes" : "no"));
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

    private static BlockCapabilities WriteCapabilities(IscsiUnit unit, bool mayDiscard) =>
        BlockCapabilities.Write
        | BlockCapabilities.Zero
        | (unit.HasFua ? BlockCapabilities.Fua : 0)

        // What reads differently each time after a discard is of no use to anybody.
        | (mayDiscard && unit.ReadsZero && (unit.CanUnmap || unit.CanWriteSameUnmap) ? BlockCapabilities.Discard : 0);

    private static bool IsUnknown(in IscsiOutcome outcome) => outcome.Kind == IscsiOutcomeKind.Answered
        && outcome.Status == 2 && outcome.Sense.Key == ScsiSense.IllegalRequest && outcome.Sense.Code != ScsiSense.OutOfRange;

    private static void ThrowIfRefused(in IscsiOutcome outcome, string operation, long offset)
    {
        if (outcome.Kind == IscsiOutcomeKind.Answered && outcome.Status != 0)
        {
            throw IscsiErrors.Refused(operation, outcome, offset);
        }
    }

    private long BlockOf(long offset) => offset / _unit.BlockLength;

    private long ZeroStep() => _unit.MaxWriteSame == 0 ? SlowStep
        : (long)Math.Min((ulong)(SlowStep / _unit.BlockLength), _unit.MaxWriteSame) * _unit.BlockLength;

    private long DiscardStep() => !_unit.CanUnmap ? ZeroStep()
        : Math.Min(_unit.MaxUnmap, LongestUnmap / _unit.BlockLength) * _unit.BlockLength;

    private (ScsiCommand Command, byte[] Data) DiscardOf(long offset, long count)
    {
        if (!_unit.CanUnmap)
        {
            return (ScsiCommand.WriteSame(BlockOf(offset), BlockOf(count), mayUnmap: true), _zeroes);
        }

        var data = new byte[Unsafe.SizeOf<ScsiUnmapList>()];
        var list = new ScsiUnmapList(
            (ushort)(data.Length - 2), (ushort)(data.Length - 8), 0, (ulong)BlockOf(offset), (uint)BlockOf(count), 0);
        MemoryMarshal.Write(data, in list);
        return (ScsiCommand.Unmap(data.Length), data);
    }

    /// <summary>Whether the unit flushes; one that cannot and has a cache gives no promise.</summary>
    private async Task LookForFlushAsync(Action<string> warn, CancellationToken cancellationToken)
    {
        LinkLease<IscsiSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
        IscsiOutcome outcome = await SendAsync(
            lease.Session, ScsiCommand.SynchronizeCache, default, default, cancellationToken).ConfigureAwait(false);
        _hasFlush = !IsUnknown(outcome);
        if (!_hasFlush && _unit.HasWriteCache)
        {
            warn($"{_connector.Peer} cannot flush its cache: what is written may be lost when it crashes");
        }
    }

    /// <summary>
    /// Sends a command until it is answered for good: what the unit cannot do just now is put off. A unit that was reset
    /// ends the session, because what it had not flushed has to be written again.
    /// </summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<IscsiOutcome> SendAsync(
        IscsiSession session, ScsiCommand command, Memory<byte> target, ReadOnlyMemory<byte> payload,
        CancellationToken cancellationToken)
    {
        if (Volatile.Read(ref _isExchanged))
        {
            return new IscsiOutcome(
                IscsiOutcomeKind.Answered, 2, new ScsiSense(ScsiSense.UnitAttention, ScsiSense.MediumChanged));
        }

        // What a unit says of lists that are its parameters is of no account (tgtd: UNMAP without a byte).
        bool mustBeWhole = command.Operation is ScsiOperation.Read10 or ScsiOperation.Read16 or ScsiOperation.Write10
            or ScsiOperation.Write16;
        IscsiOutcome outcome = await session.ExecuteAsync(command, target, payload, mustBeWhole, cancellationToken)
            .ConfigureAwait(false);
        if (outcome.Outcome == ReplyOutcome.Ok)
        {
            return outcome;
        }

        var patience = new ScsiPatience(_clock);
        while (outcome.Kind == IscsiOutcomeKind.Answered)
        {
            switch (ScsiPatience.Judge(outcome))
            {
                case ScsiVerdict.Reset:
                    session.Abort(new BlockException(BlockErrorKind.IoError, "the logical unit was reset"));
                    return new IscsiOutcome(IscsiOutcomeKind.Lost);
                case ScsiVerdict.Again when patience.MayTryAgain(
                    new TimeSpan(Volatile.Read(ref _patience)), out TimeSpan pause):
                    await PauseAsync(pause, session).ConfigureAwait(false);
                    break;
                case ScsiVerdict.Refused when outcome.Sense.Code == ScsiSense.MediumChanged:
                    Volatile.Write(ref _isExchanged, true);
                    return outcome;
                default:
                    return outcome;
            }

            outcome = await session.ExecuteAsync(command, target, payload, mustBeWhole, cancellationToken)
                .ConfigureAwait(false);
        }

        return outcome;
    }

    private async Task PauseAsync(TimeSpan pause, IscsiSession session)
    {
        if (pause > TimeSpan.Zero)
        {
            await Task.WhenAny(Task.Delay(pause, _clock), session.Ended).ConfigureAwait(false);
        }
    }

    /// <summary>Reads in one command; for the reader.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask FetchAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        ScsiCommand command = ScsiCommand.Read(_unit.IsLarge, BlockOf(offset), (int)BlockOf(buffer.Length));
        ThrowIfRefused(
            await ReadingAsync(command, buffer, cancellationToken).ConfigureAwait(false), "cannot read", offset);
    }

    /// <summary>Sends a command that reads until it is answered.</summary>
    private ValueTask<IscsiOutcome> ReadingAsync(
        ScsiCommand command, Memory<byte> target, CancellationToken cancellationToken) => _sender.SendAsync(
            static (session, sent, token) => sent.Device.SendAsync(session, sent.Command, sent.Target, default, token),
            (Device: this, Command: command, Target: target), cancellationToken);

    /// <summary>Sends a change until it is acknowledged or refused, and enters it in the log.</summary>
    private ValueTask<IscsiOutcome> ChangeAsync(
        ChangeKind kind, ScsiCommand command, long offset, long count, ReadOnlyMemory<byte> data, bool isDurable,
        CancellationToken cancellationToken)
    {
        isDurable |= !_hasFlush; // Without flushes there is nothing to wait for.
        return _sender.ChangeAsync(
            new RemoteChange(kind, offset, count, data, isDurable),
            static (session, sent, token) => sent.Device.SendAsync(session, sent.Command, default, sent.Data, token),
            (Device: this, Command: command, Data: data), cancellationToken);
    }

    private void Forget(long offset, long count)
    {
        _reader.Invalidate(offset, count);
        _extents.Forget();
    }

    /// <summary>Brings a new session to where the old one was.</summary>
    private async Task RestoreAsync(LinkLease<IscsiSession> lease)
    {
        IscsiUnit now = lease.Session.Unit;
        if (now.BlockLength != _unit.BlockLength || now.Blocks < _unit.Blocks || now.IsCd != _unit.IsCd
            || (_unit.IsCd && now.Blocks != _unit.Blocks) || (_writable && now.IsReadOnly)
            || (_unit.HasFua && _writable && !now.HasFua))
        {
            throw new BlockException(BlockErrorKind.InvalidData, "the target came back with another disk")
            {
                Found = $"{now.Blocks} blocks of {now.BlockLength} bytes",
                Expected = $"{_unit.Blocks} blocks of {_unit.BlockLength} bytes",
            };
        }

        _extents.Forget();
        await _log.ReplayAsync(lease.Generation, change => ReplayAsync(lease.Session, change), ReplayDepth)
            .ConfigureAwait(false);
    }

    private async Task<BlockException?> ReplayAsync(IscsiSession session, UnflushedWrite change)
    {
        long most = change.Kind switch
        {
            ChangeKind.Data => change.Count,
            ChangeKind.Discard => DiscardStep(),
            _ => ZeroStep(),
        };
        for (long done = 0; done < change.Count; done += most)
        {
            long at = change.Offset + done;
            long step = Math.Min(most, change.Count - done);
            (ScsiCommand command, ReadOnlyMemory<byte> data) = change.Kind switch
            {
                ChangeKind.Data =>
                    (ScsiCommand.Write(_unit.IsLarge, BlockOf(at), (int)BlockOf(step), fua: false), change.Data),
                ChangeKind.Discard => DiscardOf(at, step),
                _ => (ScsiCommand.WriteSame(BlockOf(at), BlockOf(step), change.Kind == ChangeKind.ZeroMayUnmap), _zeroes),
            };
            IscsiOutcome outcome = await SendAsync(session, command, default, data, CancellationToken.None)
                .ConfigureAwait(false);
            if (outcome.Kind != IscsiOutcomeKind.Answered)
            {
                throw new BlockException(BlockErrorKind.IoError, "the session ended again while writes were repeated");
            }

            if (outcome.Status != 0)
            {
                return IscsiErrors.Refused("cannot write", outcome, at);
            }
        }

        return null;
    }
}
