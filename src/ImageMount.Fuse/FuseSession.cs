using ImageMount.Fuse.Mount;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Fuse;

/// <summary>
/// One mounted file system. <see cref="MountAsync"/> → (INIT negotiated, ready) → serving → unmounted by
/// <see cref="UnmountAsync"/> or by anybody's umount(8) → every operation completed → the file system's
/// <see cref="FuseFileSystem.DestroyAsync"/> → <see cref="WaitAsync"/> completes.
/// </summary>
public sealed class FuseSession : IFuseConnection, IAsyncDisposable
{
    /// <summary>Mounts <paramref name="fileSystem"/>. When this returns, INIT has been negotiated and the mount can be
    /// used.</summary>
    /// <param name="mountPoint">An existing directory, or an existing regular file that the mount then covers (the root
    /// inode must then be a regular file).</param>
    /// <exception cref="FuseMountException">Says what is wrong and what to do.</exception>
    public static Task<FuseSession> MountAsync(
        string mountPoint, FuseFileSystem fileSystem, FuseSessionOptions options,
        CancellationToken cancellationToken = default) => throw new NotSupportedException("arrives with the next push");

    private FuseSession(string mountPoint) => MountPoint = mountPoint;

    /// <summary>Absolute path with symlinks resolved.</summary>
    public string MountPoint { get; }

    /// <inheritdoc/>
    public FuseConnectionInfo Info => throw new NotSupportedException();

    /// <summary>Counts, as of now.</summary>
    public FuseCounters Counters => throw new NotSupportedException();

    /// <summary>Completes when the mount is gone and <see cref="FuseFileSystem.DestroyAsync"/> has finished; fails with
    /// what that threw.</summary>
    public Task WaitAsync(CancellationToken cancellationToken = default) => throw new NotSupportedException();

    /// <summary>Completes when every request taken from the kernel before this call has been answered.</summary>
    public Task DrainAsync(CancellationToken cancellationToken = default) => throw new NotSupportedException();

    /// <summary>Unmounts and waits as <see cref="WaitAsync"/> does. The kernel writes its dirty pages first.</summary>
    /// <param name="lazy">Detach although somebody uses it; then this returns only when they let go.</param>
    /// <exception cref="FuseMountException"><see cref="FuseMountFailure.Busy"/>: still mounted, still served.</exception>
    public Task UnmountAsync(bool lazy = false, CancellationToken cancellationToken = default) =>
        throw new NotSupportedException();

    /// <summary>Cuts the connection at once (/sys/fs/fuse/connections): every waiting system call gets an error. Not an
    /// orderly end: dirty pages are lost.</summary>
    public void Abort() => throw new NotSupportedException();

    /// <inheritdoc/>
    public int NotifyInvalidateInode(ulong inode, long offset, long length) => throw new NotSupportedException();

    /// <inheritdoc/>
    public int NotifyInvalidateEntry(ulong parent, ReadOnlySpan<byte> name) => throw new NotSupportedException();

    /// <inheritdoc/>
    public int NotifyStore(ulong inode, long offset, ReadOnlySpan<byte> data) => throw new NotSupportedException();

    /// <inheritdoc/>
    public int NotifyDelete(ulong parent, ulong child, ReadOnlySpan<byte> name) => throw new NotSupportedException();

    /// <inheritdoc/>
    public int RegisterBacking(SafeFileHandle file) => throw new NotSupportedException();

    /// <inheritdoc/>
    public int UnregisterBacking(int backingId) => throw new NotSupportedException();

    /// <summary>Unmounts lazily if still mounted, and waits.</summary>
    public ValueTask DisposeAsync() => throw new NotSupportedException();
}
