using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ftp;

/// <summary>A file of an FTP server.</summary>
internal sealed class FtpDevice : BlockDevice, IWaitsForPeer, IRemoteFile
{
    private readonly FtpFile _file;
    private readonly string _user;
    private bool _hasRange;
    private readonly RemoteLink<FtpSession> _link;
    private readonly Resender<FtpSession> _resender;
    private readonly RangeReader _reader;

    /// <summary>Not open yet.</summary>
    public FtpDevice(FtpTarget target, LinkPolicy policy, FtpOptions options)
    {
        _file = new FtpFile(target.Shown);
        _user = target.Login.User;
        _link = new RemoteLink<FtpSession>(
            target.Peer, policy, token => FtpSession.ConnectAsync(target, _file, policy, options.Connections, token),
            (_, _) => Task.CompletedTask);
        _resender = new Resender<FtpSession>(_link, policy.Clock);
        _reader = new RangeReader(FetchAsync, () => Length, new RangeReaderOptions
        {
            // A transfer costs several round trips.
            BlockSize = 1 << 20,
            SplitSize = 4 << 20,
            Window = options.ReadAhead,
            MaxBytes = Math.Max(16 << 20, 2 * options.ReadAhead),
        });
    }

    /// <inheritdoc/>
    public override long Length => _file.Length;

    /// <summary>Connects for the first time.</summary>
    public async Task OpenAsync(CancellationToken cancellationToken) =>
        _hasRange = (await _link.OpenAsync(cancellationToken).ConfigureAwait(false)).HasRange;

    /// <inheritdoc/>
    public RemoteVersion? Version => _file.VersionFor(_user);

    /// <inheritdoc/>
    /// <remarks>A transfer goes on for long; the file is looked at only before it.</remarks>
    public bool ChecksEveryRead => false;

    /// <inheritdoc/>
    public bool PrefersOrder => !_hasRange;

    /// <inheritdoc/>
    public async ValueTask<bool> IsUnchangedAsync(CancellationToken cancellationToken)
    {
        LinkLease<FtpSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
        return await lease.Session.IsUnchangedAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        _reader.ReadAsync(offset, buffer, cancellationToken);

    /// <inheritdoc/>
    public void StopWaiting(TimeSpan grace) => _resender.StopWaiting(grace);

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await _reader.StopAsync().ConfigureAwait(false);
        await _link.DisposeAsync().ConfigureAwait(false);
    }

    private ValueTask FetchAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        _resender.ReadAsync(
            offset, buffer, static (session, at, part, token) => session.ReadAsync(at, part, token), _file.ThrowIfChanged,
            cancellationToken);
}
