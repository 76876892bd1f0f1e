using System.Security.Cryptography;
using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Gluster;

/// <summary>Opens the file of a device, again and again, on the connection that it holds on to.</summary>
/// <remarks>
/// A new session begins only when the library has told the end of every change of the old ones: one that it still has could
/// be carried out later and undo what was written since. So a change whose end is never told keeps the disk away for good.
/// </remarks>
/// <param name="volumes">Connections.</param>
/// <param name="target">Where the volume is.</param>
/// <param name="path">Path of the file in it.</param>
/// <param name="policy">How patient.</param>
/// <param name="warn">For what the user should know.</param>
internal sealed class GlusterConnector(
    GlusterVolumes volumes, GfapiTarget target, string path, LinkPolicy policy, Action<string> warn)
{
    /// <summary>No file is that long, so the lock of a fence is in nobody's way.</summary>
    private const long FirstFence = 1L << 62;

    private readonly GlusterLedger _ledger = new();
    private readonly long _fence =
        FirstFence | (BitConverter.ToInt64(RandomNumberGenerator.GetBytes(8)) & (FirstFence - 2));
    private readonly long _owner = BitConverter.ToInt64(RandomNumberGenerator.GetBytes(8));
    private GlusterVolume? _volume;
    private Task _lastCall = Task.CompletedTask;
    private bool _isFenceless;
    private bool _wasOpen;

    /// <summary>What messages call the servers.</summary>
    public string Peer { get; } = GlusterUri.Peer(target);

    /// <summary>Opens the file. One call at a time.</summary>
    public async Task<GlusterSession> OpenAsync(bool writable, CancellationToken cancellationToken)
    {
        _volume ??= await volumes.AcquireAsync(target, cancellationToken).ConfigureAwait(false);
        await WaitAsync(_lastCall, "an earlier call has not come back", cancellationToken).ConfigureAwait(false);
        if (writable)
        {
            await WaitAsync(
                _ledger.QuietAsync(), "what becomes of earlier writes is not known yet", cancellationToken)
                .ConfigureAwait(false);
        }

        GlusterVolume volume = _volume;
        volumes.AddUser(volume);
        var thread = new GlusterThread("gluster file");
        Task<Opened> opening = thread.CallAsync(() => Open(volume.Connection, writable));
        _lastCall = opening;
        Opened opened;
        try
        {
            opened = await opening.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // It goes on; what it brings is closed.
            thread.Post(() =>
            {
                opening.Result.File?.Close();
                volumes.Release(volume);
            });
            thread.Stop();
            throw;
        }

        if (opened.Errno != 0)
        {
            thread.Stop();
            volumes.Release(volume);
            throw Failure(opened, writable);
        }

        if (writable && opened.Fence is null && !_isFenceless)
        {
            _isFenceless = true;
            warn($"the volume on {Peer} has no locks: that a brick was started again may go unnoticed");
        }

        var session = new GlusterSession(opened.File!, thread, _ledger, () => volumes.Release(volume))
        {
            Size = opened.Size,
            Fence = opened.Fence,
            KnowsHoles = opened.KnowsHoles,
            Patience = policy.Timeout,
            Clock = policy.Clock,
        };
        if (writable && opened.Fence is null && _wasOpen)
        {
            await SettleAsync(session, cancellationToken).ConfigureAwait(false);
        }

        _wasOpen = true;
        return session;
    }

    /// <summary>The device has no use for the connection any more.</summary>
    public void Release()
    {
        if (_volume is { } volume)
        {
            _volume = null;
            volumes.Release(volume);
        }
    }

    private static async Task WaitAsync(Task task, string what, CancellationToken cancellationToken)
    {
        try
        {
            await task.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException e)
        {
            throw new BlockException(BlockErrorKind.TimedOut, what, e);
        }
    }

    /// <summary>Without a fence nothing but time tells that a brick is done with the old connection.</summary>
    private async Task SettleAsync(GlusterSession session, CancellationToken cancellationToken)
    {
        try
        {
            await Task.Delay(policy.Settle, policy.Clock, cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            await session.CloseAsync().ConfigureAwait(false);
            throw;
        }
    }

    private BlockException Failure(in Opened opened, bool writable)
    {
        int errno = opened.Errno;
        if (opened.IsFenced)
        {
            return new BlockException(
                BlockErrorKind.InUse, $"a brick of {Peer} still holds on to the connection that was lost");
        }

        return GlusterErrors.IsLoss(errno)
            ? GlusterErrors.Lost(errno)
            : GlusterErrors.Refused(errno, writable ? $"cannot open '{path}' for writing" : $"cannot open '{path}'");
    }

    /// <summary>On the thread. A file that is not given to the caller is closed here.</summary>
    private Opened Open(IGfapiVolume volume, bool writable)
    {
        int result = volume.TryOpen(path, writable, out IGfapiFile? file);
        if (result != 0)
        {
            return new Opened { Errno = -result };
        }

        result = file!.TryGetSize(out long size, out _);
        long? fence = null;
        bool isFenced = false;
        if (result == 0 && writable)
        {
            result = file.TryFence(_fence, _owner);
            isFenced = result is -Errno.EAGAIN or -Errno.EACCES;
            fence = result == 0 ? _fence : null;
            result = result is -Errno.EOPNOTSUPP or -Errno.ENOSYS or -Errno.EINVAL or -Errno.ENOLCK ? 0 : result;
        }

        if (result != 0)
        {
            file.Close();
            return new Opened { Errno = -result, IsFenced = isFenced };
        }

        // An empty file, or one that is all hole: ENXIO.
        long data = file.Seek(0, SysLseek.SEEK_DATA);
        return new Opened
        {
            File = file,
            Size = size,
            Fence = fence,
            KnowsHoles = data is >= 0 or -Errno.ENXIO,
        };
    }

    /// <summary>What came of opening.</summary>
    private readonly record struct Opened
    {
        public int Errno { get; init; }

        public bool IsFenced { get; init; }

        public IGfapiFile? File { get; init; }

        public long Size { get; init; }

        public long? Fence { get; init; }

        public bool KnowsHoles { get; init; }
    }
}
