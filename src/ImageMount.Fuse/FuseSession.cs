using System.Globalization;
using ImageMount.Fuse.Abi;
using ImageMount.Fuse.Mount;
using ImageMount.Fuse.Protocol;
using ImageMount.Fuse.Transport;
using ImageMount.Fuse.Transport.Uring;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse;

/// <summary>
/// One mounted file system. <see cref="MountAsync"/> → (INIT negotiated, ready) → serving → unmounted by
/// <see cref="UnmountAsync"/> or by anybody's umount(8) → every operation completed → the file system's
/// <see cref="FuseFileSystem.DestroyAsync"/> → <see cref="WaitAsync"/> completes.
/// </summary>
public sealed class FuseSession : IFuseConnection, IAsyncDisposable
{
    private readonly FuseSessionOptions _options;
    private readonly IFuseTransport _transport;
    private readonly FuseServer _server;
    private readonly SafeFileHandle _device;
    private Task _ended = Task.CompletedTask;

    private FuseSession(MountPoint point, FuseFileSystem fileSystem, FuseSessionOptions options, SafeFileHandle device)
    {
        MountPoint = point.Path;
        _device = device;
        int request = RequestBytes(options);
        _transport = MakeTransport(ref options, BufferBytes(request));
        _options = options;
        _server = new FuseServer(fileSystem, options, this, request, () => _transport.Requests);
    }

    /// <summary>Absolute path with symlinks resolved.</summary>
    public string MountPoint { get; }

    /// <summary>The mount's device, MAJOR:MINOR, as in /proc/self/mountinfo; null when it could not be found there.
    /// </summary>
    public string? Device { get; private set; }

    /// <inheritdoc/>
    public FuseConnectionInfo Info =>
        _server.Info ?? throw new InvalidOperationException("INIT has not been negotiated yet.");

    /// <summary>How requests travel: <see cref="FuseTransportKind.Threads"/> or <see cref="FuseTransportKind.Uring"/>.
    /// </summary>
    public FuseTransportKind Transport => _transport is UringTransport { IsActive: true }
        ? FuseTransportKind.Uring
        : FuseTransportKind.Threads;

    /// <summary>Counts, as of now.</summary>
    public FuseCounters Counters => _server.Counters();

    /// <summary>Mounts <paramref name="fileSystem"/>. When this returns, INIT has been negotiated and the mount can be
    /// used.</summary>
    /// <param name="mountPoint">An existing directory, or an existing regular file that the mount then covers (the root
    /// inode must then be a regular file).</param>
    /// <param name="fileSystem">What to serve.</param>
    /// <param name="options">How.</param>
    /// <param name="cancellationToken">Gives up and unmounts.</param>
    /// <exception cref="FuseMountException">Says what is wrong and what to do.</exception>
    public static Task<FuseSession> MountAsync(
        string mountPoint, FuseFileSystem fileSystem, FuseSessionOptions options,
        CancellationToken cancellationToken = default) =>
        MountAsync(mountPoint, fileSystem, options, forceHelper: false, cancellationToken);

    internal static async Task<FuseSession> MountAsync(
        string mountPoint, FuseFileSystem fileSystem, FuseSessionOptions options, bool forceHelper,
        CancellationToken cancellationToken)
    {
        Mount.MountPoint point = Mount.MountPoint.Check(mountPoint, options.AllowNonEmpty);
        if (options.Transport == FuseTransportKind.Uring && !UringTransport.IsOffered())
        {
            throw new FuseMountException(
                FuseMountFailure.Negotiation, point.Path,
                $"This kernel does not offer FUSE over io_uring. Root can turn it on: echo Y > {UringTransport.Parameter}");
        }
        SafeFileHandle device = FuseMounter.Mount(point, options, RequestBytes(options), forceHelper);
        FuseSession session;
        try
        {
            session = new FuseSession(point, fileSystem, options, device);
        }
        catch
        {
            FuseUnmount.Unmount(point.Path, lazy: true);
            device.Dispose();
            throw;
        }
        session._transport.Start(session._server);
        session._ended = session.RunAsync();
        try
        {
            await session.InitializeAsync(cancellationToken).ConfigureAwait(false);
            return session;
        }
        catch
        {
            await session.GiveUpAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Completes when the mount is gone and <see cref="FuseFileSystem.DestroyAsync"/> has finished; fails with
    /// what that threw.</summary>
    public Task WaitAsync(CancellationToken cancellationToken = default) => _ended.WaitAsync(cancellationToken);

    /// <summary>Completes when the connection to the kernel has ended; requests may still be in flight then.</summary>
    public Task Disconnected => _transport.Completion;

    /// <summary>Completes when every request taken from the kernel before this call has been answered.</summary>
    public Task DrainAsync(CancellationToken cancellationToken = default) => _server.DrainAsync(cancellationToken);

    /// <summary>Unmounts and waits as <see cref="WaitAsync"/> does. The kernel writes its dirty pages first. Does
    /// nothing but wait when somebody else has unmounted already.</summary>
    /// <param name="lazy">Detach although somebody uses it; then this returns only when they let go.</param>
    /// <param name="cancellationToken">Stops waiting; an umount(2) under way goes on.</param>
    /// <exception cref="FuseMountException"><see cref="FuseMountFailure.Busy"/>: still mounted, still
    /// served.</exception>
    public async Task UnmountAsync(bool lazy = false, CancellationToken cancellationToken = default)
    {
        if (!_transport.Completion.IsCompleted)
        {
            try
            {
                // umount(2) blocks until dirty pages are written, through our own workers: it needs a thread of its
                // own.
                await Task.Factory.StartNew(
                    () => FuseUnmount.Unmount(MountPoint, lazy), CancellationToken.None,
                    TaskCreationOptions.LongRunning, TaskScheduler.Default)
                    .WaitAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (FuseMountException e) when (e.Failure == FuseMountFailure.NotMounted)
            {
                // Unmounted meanwhile, or detached before: the wait below covers both.
            }
        }
        await WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Cuts the connection at once: every waiting system call gets an error. Not an orderly end: dirty pages
    /// are lost. The mount may stay behind, dead. Answers false when it is not possible (needs root, or the fusectl
    /// file system at /sys/fs/fuse/connections).</summary>
    public bool Abort()
    {
        if (Device is null)
        {
            return false;
        }
        try
        {
            int minor = int.Parse(Device.AsSpan(Device.IndexOf(':') + 1), CultureInfo.InvariantCulture);
            string file = FuseTuning.ConnectionDirectory(minor) + "/abort";
            if (File.Exists(file))
            {
                File.WriteAllText(file, "1");
                return true;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The other way, then.
        }
        // EBUSY: it is still in the tree, but cut all the same.
        return SysUmount.Unmount(MountPoint, SysUmount.MNT_FORCE | SysUmount.UMOUNT_NOFOLLOW) is 0 or -Errno.EBUSY;
    }

    /// <inheritdoc/>
    public int NotifyInvalidateInode(ulong inode, long offset, long length) =>
        Notify(FuseNotification.InvalidateInode(inode, offset, length));

    /// <inheritdoc/>
    public int NotifyInvalidateEntry(ulong parent, ReadOnlySpan<byte> name) =>
        Notify(FuseNotification.InvalidateEntry(parent, name));

    /// <inheritdoc/>
    public int NotifyStore(ulong inode, long offset, ReadOnlySpan<byte> data) =>
        Notify(FuseNotification.Store(inode, offset, data));

    /// <inheritdoc/>
    public int NotifyDelete(ulong parent, ulong child, ReadOnlySpan<byte> name) =>
        Notify(FuseNotification.Delete(parent, child, name));

    /// <inheritdoc/>
    public int RegisterBacking(SafeFileHandle file)
    {
        if (_server.Info is not { Passthrough: true })
        {
            return -Errno.EOPNOTSUPP;
        }
        bool held = false;
        try
        {
            file.DangerousAddRef(ref held);
            return WithDevice((int)file.DangerousGetHandle(), FuseDeviceControl.BackingOpen);
        }
        finally
        {
            if (held)
            {
                file.DangerousRelease();
            }
        }
    }

    /// <inheritdoc/>
    public int UnregisterBacking(int backingId) => WithDevice(backingId, FuseDeviceControl.BackingClose);

    /// <summary>Unmounts lazily if still mounted (or dead), and waits; swallows the failure of the destroy hook, which
    /// <see cref="WaitAsync"/> tells.</summary>
    public async ValueTask DisposeAsync()
    {
        if (!_ended.IsCompleted)
        {
            await GiveUpAsync().ConfigureAwait(false);
        }
        else if (Device is not null && MountTable.Find(MountPoint)?.Device == Device)
        {
            DetachQuietly(); // what Abort left behind
        }
    }

    // What is asked for in INIT follows from what could be set up.
    private IFuseTransport MakeTransport(ref FuseSessionOptions options, int payload)
    {
        if (options.Transport == FuseTransportKind.Auto)
        {
            options = options with
            {
                Transport = UringTransport.IsOffered() ? FuseTransportKind.Uring : FuseTransportKind.Threads,
            };
            if (options.Transport == FuseTransportKind.Uring
                && UringTransport.TryCreate(_device, options, payload, out _) is { } rings)
            {
                return rings;
            }
            options = options with { Transport = FuseTransportKind.Threads };
        }
        else if (options.Transport == FuseTransportKind.Uring)
        {
            return UringTransport.TryCreate(_device, options, payload, out int errno) ?? throw new FuseMountException(
                FuseMountFailure.Negotiation, MountPoint,
                $"FUSE over io_uring is not possible here: io_uring_setup: {Errno.Format(errno)}.");
        }
        return new ThreadTransport(_device, options, payload);
    }

    private async Task InitializeAsync(CancellationToken cancellationToken)
    {
        // Whichever comes first: INIT agreed on, or the connection gone.
        Task first = await Task.WhenAny(_server.Initialized, _transport.Completion)
            .WaitAsync(cancellationToken).ConfigureAwait(false);
        if (first != _server.Initialized)
        {
            await first.ConfigureAwait(false);
            throw new FuseMountException(
                FuseMountFailure.Negotiation, MountPoint, $"The mount at {MountPoint} went away while it was set up.");
        }
        try
        {
            await _server.Initialized.ConfigureAwait(false);
        }
        catch (FuseException e)
        {
            throw new FuseMountException(
                FuseMountFailure.Negotiation, MountPoint, $"Cannot serve {MountPoint}: {e.Message}", e);
        }
        _transport.Ready();
        Device = MountTable.Find(MountPoint)?.Device;
        Tune();
    }

    private void Tune()
    {
        if (Device is null || SysUser.EffectiveId != 0)
        {
            return; // only root may, and everything works without
        }
        if (_options.MaxReadahead > 0 && !FuseTuning.TrySetReadAhead(Device, _options.MaxReadahead))
        {
            _options.Warning?.Invoke($"The read-ahead of {MountPoint} could not be raised.", null);
        }
        if (Info.WritebackCache && _options.MaxDirtyPercent > 0
            && !FuseTuning.TrySetDirtyLimit(Device, Math.Min(_options.MaxDirtyPercent, 100)))
        {
            _options.Warning?.Invoke($"The dirty-page limit of {MountPoint} could not be raised.", null);
        }
    }

    private async Task RunAsync()
    {
        try
        {
            await _transport.Completion.ConfigureAwait(false);
        }
        catch (Exception e)
        {
            // The kernel still has the mount, and nobody to serve it.
            _options.Warning?.Invoke($"Serving {MountPoint} failed; it is detached.", e);
            if (Transport == FuseTransportKind.Uring)
            {
                Abort(); // a ring without its thread answers nobody, not even the DESTROY of the unmount below
            }
            DetachQuietly();
            throw;
        }
        finally
        {
            try
            {
                // Without INIT there was nothing to destroy.
                if (_server.Info is not null)
                {
                    await _server.DestroyAsync().ConfigureAwait(false);
                }
            }
            finally
            {
                await _server.DrainAsync(CancellationToken.None).ConfigureAwait(false);
                _transport.Dispose();
            }
        }
    }

    private void DetachQuietly()
    {
        try
        {
            FuseUnmount.Unmount(MountPoint, lazy: true);
        }
        catch (FuseMountException e)
        {
            _options.Warning?.Invoke($"{MountPoint} could not be detached.", e);
        }
    }

    private async Task GiveUpAsync()
    {
        try
        {
            await Task.Factory.StartNew(
                () => FuseUnmount.Unmount(MountPoint, lazy: true), CancellationToken.None,
                TaskCreationOptions.LongRunning, TaskScheduler.Default).ConfigureAwait(false);
        }
        catch (FuseMountException e)
        {
            _options.Warning?.Invoke($"{MountPoint} could not be unmounted.", e);
            if (e.Failure != FuseMountFailure.NotMounted)
            {
                return;
            }
        }
        await _ended.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private int Notify(byte[] message) =>
        WithDevice((transport: _transport, message), static (_, s) => s.transport.Notify(s.message));

    // Workers end by themselves before the descriptors are closed; these calls come from anywhere at any time, and a
    // notification can block in the kernel for long, so it holds a reference to the descriptor and no lock.
    private int WithDevice<TState>(TState state, Func<int, TState, int> call)
    {
        bool held = false;
        try
        {
            _device.DangerousAddRef(ref held);
            return call((int)_device.DangerousGetHandle(), state);
        }
        catch (ObjectDisposedException)
        {
            return -Errno.ENODEV;
        }
        finally
        {
            if (held)
            {
                _device.DangerousRelease();
            }
        }
    }

    private static int RequestBytes(FuseSessionOptions options)
    {
        int wanted = Math.Clamp(options.MaxWrite, FuseConstants.PageSize, 16 << 20);
        long limit = (long)FuseTuning.MaxPages() * FuseConstants.PageSize;
        return (int)Math.Min(wanted, limit) & ~(FuseConstants.PageSize - 1);
    }

    // Extended attributes (64 KiB and a name) and ioctls must fit however small the largest WRITE is.
    private static int BufferBytes(int request) => Math.Max(request, 128 << 10) + FuseConstants.PageSize;
}
