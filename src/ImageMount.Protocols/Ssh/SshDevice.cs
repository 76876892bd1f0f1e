using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ssh;

/// <summary>
/// A disk that is a file on an SSH server. Requests go through the link, which may be making the connection again; what the
/// server acknowledged and has not flushed is kept in the log until it has.
/// </summary>
/// <remarks>
/// The size: SFTP can set it, but nothing makes that durable except a flush. So the size at the last flush and one that is
/// being set are remembered; a server that comes back with either gets the present one again. Any other size means that
/// somebody else has changed the file, and it is not used any more.
/// </remarks>
internal sealed class SshDevice : BlockDevice, IHasIdentity, IWaitsForPeer, IRemoteFile
{
    /// <summary>Writes are replayed this many at a time.</summary>
    private const int ReplayDepth = 16;

    private readonly SshConnector _connector;
    private readonly SshOptions _options;
    private readonly RemoteLink<SshSession> _link;
    private readonly UnflushedWrites _log;
    private readonly RequestSender<SshSession, SftpReply> _sender;
    private readonly RangeReader _reader;
    private readonly SemaphoreSlim _oneResize = new(1, 1);
    private readonly bool _writable;
    private readonly bool _hasFsync;
    private readonly SftpAttributes _attributes;
    private long _length;
    private long _durableLength;
    private long _wantedLength;

    private SshDevice(
        SshConnector connector, SshOptions options, RemoteLink<SshSession> link, UnflushedWrites log, OpenFlags flags,
        SftpFile file)
    {
        _connector = connector;
        _options = options;
        _link = link;
        _log = log;
        _sender = new RequestSender<SshSession, SftpReply>(link, log, (at, count) => _reader!.Invalidate(at, count));
        _writable = flags.Writable;
        _hasFsync = file.Connection.HasFsync;
        _attributes = file.Attributes;
        _length = _durableLength = _wantedLength = file.Size;
        int split = 1 << System.Numerics.BitOperations.Log2((uint)file.Connection.MaxRead);
        Limits = BlockLimits.Default with { OptimalTransfer = split };
        _reader = new RangeReader(
            FetchAsync, () => Length, new RangeReaderOptions { BlockSize = split, SplitSize = split });
    }

    /// <inheritdoc/>
    public override long Length => Volatile.Read(ref _length);

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities =>
        _writable ? BlockCapabilities.Write | BlockCapabilities.Resize : BlockCapabilities.None;

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public string Identity => SshUri.Format(_options);

    /// <inheritdoc/>
    public RemoteVersion? Version => _attributes.Modified is { } seconds && seconds != 0
        ? new RemoteVersion(
            $"modified {DateTimeOffset.FromUnixTimeSeconds(seconds):u}", IsStrong: false,
            DateTimeOffset.FromUnixTimeSeconds(seconds))
        : null;

    /// <inheritdoc/>
    public bool ChecksEveryRead => false;

    /// <inheritdoc/>
    public async ValueTask<bool> IsUnchangedAsync(CancellationToken cancellationToken)
    {
        LinkLease<SshSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
        SftpAttributes? now = await lease.Session.Main.LookAsync(cancellationToken).ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
        return now is null
            ? throw new BlockException(BlockErrorKind.IoError, "the connection ended before the file could be looked at")
            : (now.Value.Size, now.Value.Modified) == (_attributes.Size, _attributes.Modified);
    }

    /// <summary>Connects and opens the file.</summary>
    public static async Task<SshDevice> OpenAsync(
        SshConnector connector, SshOptions options, OpenFlags flags, Action<string> warn,
        CancellationToken cancellationToken)
    {
        SshDevice? device = null;
        var log = new UnflushedWrites(UnflushedWrites.DefaultMaxBytes, token => device!.FlushAsync(token).AsTask());
        var link = new RemoteLink<SshSession>(
            connector.Peer, SshDriver.PolicyOf(options),
            async token => new SshSession(
                await connector.OpenAsync(flags.Writable, token).ConfigureAwait(false), connector, options.Sessions,
                flags.Writable),
            (lease, _) => device!.RestoreAsync(lease));
        try
        {
            SshSession session = await link.OpenAsync(cancellationToken).ConfigureAwait(false);
            device = new SshDevice(connector, options, link, log, flags, session.Main);
            if (flags.Writable && !device._hasFsync)
            {
                warn($"{connector.Peer} cannot flush (no fsync@openssh.com): what is written may be lost when it crashes");
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
        // Without flushes there is nothing to wait for.
        var change = new RemoteChange(ChangeKind.Data, offset, buffer.Length, buffer, IsDurable: !_hasFsync);
        SftpReply reply = await _sender.ChangeAsync(
            change, static (session, change, _) => session.Main.WriteAsync(change.Offset, change.Data), change,
            cancellationToken).ConfigureAwait(false);
        ThrowIfRefused(reply, "cannot write", offset);
    }

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        long mark = _log.Mark();
        long length = Length;
        if (!_hasFsync || (_log.IsEmpty && length == Volatile.Read(ref _durableLength)))
        {
            return; // All that was acknowledged is durable already, as far as the server can make it so.
        }

        await _sender.FlushAsync(
            mark, static session => session.Main.FlushAsync(), static reply => SftpErrors.Refused("cannot flush", reply),
            cancellationToken).ConfigureAwait(false);
        Volatile.Write(ref _durableLength, length);
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
                if (!_hasFsync)
                {
                    // Nothing is kept to be written again: a file that has lost this size has lost more.
                    Volatile.Write(ref _durableLength, newLength);
                }
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
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ActualSize = null;
        info.FormatSpecific.Add(new("protocol", _hasFsync ? "SFTP 3, with fsync" : "SFTP 3, without fsync"));
        if (_connector.WhyNoMore is { } why)
        {
            info.FormatSpecific.Add(new("sessions", $"no more: {why}"));
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
            _oneResize.Dispose();
        }
    }

    private async Task SetSizeAsync(long newLength, CancellationToken cancellationToken)
    {
        SftpReply reply = await _sender.SendAsync(
            static (session, length, _) => session.Main.SetSizeAsync(length), newLength, cancellationToken)
            .ConfigureAwait(false);
        ThrowIfRefused(reply, "cannot set the size of the file", null);
    }

    /// <summary>Reads in one request, and more where the server answers with less; for the reader.</summary>
    private async ValueTask FetchAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (!buffer.IsEmpty)
        {
            SftpReply reply = await _sender.SendAsync(
                static (session, part, token) => session.Choose().ReadAsync(part.Offset, part.Buffer, token),
                (Offset: offset, Buffer: buffer), cancellationToken).ConfigureAwait(false);
            ThrowIfRefused(reply, "cannot read", offset);
            offset += reply.Count;
            buffer = buffer[reply.Count..];
        }
    }

    private static void ThrowIfRefused(in SftpReply reply, string operation, long? offset)
    {
        if (reply.Outcome == ReplyOutcome.Refused)
        {
            throw SftpErrors.Refused(operation, reply, offset);
        }
    }

    /// <summary>Brings a new session to where the old one was.</summary>
    private async Task RestoreAsync(LinkLease<SshSession> lease)
    {
        SftpFile file = lease.Session.Main;
        bool isOurs = file.Size == Length || (_writable
            && (file.Size == Volatile.Read(ref _durableLength) || file.Size == Volatile.Read(ref _wantedLength)));
        if (!isOurs || (_hasFsync && !file.Connection.HasFsync))
        {
            throw new BlockException(BlockErrorKind.InvalidData, "the server came back with another file")
            {
                Found = $"{file.Size} bytes",
                Expected = $"{Length} bytes",
            };
        }

        if (file.Size != Length)
        {
            SftpReply reply = await file.SetSizeAsync(Length).ConfigureAwait(false);
            if (!reply.IsOk)
            {
                throw new BlockException(BlockErrorKind.IoError, "the size of the file could not be set again");
            }
        }

        await _log.ReplayAsync(lease.Generation, change => ReplayAsync(file, change), ReplayDepth).ConfigureAwait(false);
    }

    private static async Task<BlockException?> ReplayAsync(SftpFile file, UnflushedWrite change)
    {
        SftpReply reply = await file.WriteAsync(change.Offset, change.Data).ConfigureAwait(false);
        return reply.Outcome switch
        {
            ReplyOutcome.Ok => null,
            ReplyOutcome.Refused => SftpErrors.Refused("cannot write", reply, change.Offset),
            _ => throw new BlockException(BlockErrorKind.IoError, "the connection broke again while writes were repeated"),
        };
    }
}
