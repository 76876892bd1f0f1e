using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Protocols.Files;

/// <summary>
/// A regular file or a block device of this host. Every request is one system call on the caller's thread and is
/// complete when the method returns.
/// </summary>
/// <remarks>
/// One buffered descriptor is always open: it carries the locks, and flushing, allocating, seeking and resizing go
/// through it. A writable file has another one for durable writes (see <see cref="FileSync"/>), and O_DIRECT needs one
/// for payload; see <see cref="DirectEdge"/> for how the two kinds share a file of odd length. A length that changes
/// behind our back is not followed.
/// </remarks>
internal sealed class FileDevice : BlockDevice, IHasIdentity
{
    private readonly string _name;
    private readonly SafeFileHandle _handle;
    private readonly SafeFileHandle? _durable;
    private readonly DirectIo? _direct;
    private readonly DirectEdge? _edge;
    private readonly FileLocks? _locks;
    private readonly FileTransfer _buffered;
    private readonly FileTransfer? _directTransfer;
    private readonly FileHoles _holes;
    private readonly FileSpace _space;
    private readonly FileSync _sync;
    private readonly SemaphoreSlim _oneResize = new(1, 1);
    private readonly StatInfo _stat;
    private readonly bool _writable;
    private long _length;

    /// <summary>Takes over everything that <paramref name="opened"/> holds.</summary>
    internal FileDevice(in OpenedFile opened, bool mayFree)
    {
        _name = opened.Name;
        _handle = opened.Handle;
        _direct = opened.Direct;
        _locks = opened.Locks;
        _stat = opened.Stat;
        _writable = opened.Writable;
        _length = opened.Length;

        // Bare numbers on the way of every request: the node closes the device only when none is in flight.
        int fd = (int)_handle.DangerousGetHandle();
        _sync = new FileSync(fd, _name);
        _holes = new FileHoles(fd);
        _space = new FileSpace(fd, _name, opened.DeviceBlock, mayFree);
        _durable = opened.Durable;
        _buffered = new FileTransfer(fd, _durable is null ? -1 : (int)_durable.DangerousGetHandle(), _name, 1, _sync);
        bool knowsHoles = _stat.IsRegular && FileHoles.IsSupported(fd);
        Capabilities = (knowsHoles ? BlockCapabilities.Map : 0) | (_writable ? WriteCapabilities(mayFree) : 0);
        Limits = BlockLimits.Default with { MaxZero = _stat.IsBlockDevice ? 1L << 30 : 0 };
        if (_direct is not null)
        {
            int directFd = (int)_direct.Handle.DangerousGetHandle();
            _directTransfer = new FileTransfer(directFd, directFd, _name, _direct.Alignment, _sync);
            _edge = new DirectEdge(_direct.Alignment, _length);
            Limits = Limits with
            {
                RequestAlignment = _direct.Alignment,
                MemoryAlignment = _direct.MemoryAlignment,
                OptimalTransfer = Math.Max(_direct.Alignment, 4096),
            };
        }
    }

    /// <inheritdoc/>
    public override long Length => Volatile.Read(ref _length);

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities { get; }

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public string Identity => _stat.IsBlockDevice
        ? $"device:{_stat.TargetMajor}:{_stat.TargetMinor}"
        : $"file:{_stat.DeviceMajor}:{_stat.DeviceMinor}:{_stat.Inode}";

    /// <summary>True when payload bypasses the page cache.</summary>
    internal bool IsDirect => _direct is not null;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (_edge is null)
        {
            _buffered.Read(offset, buffer.Span);
            return default;
        }

        if (!_edge.TryEnter(out int slot, out long edge))
        {
            return ReadLaterAsync(_edge, offset, buffer, cancellationToken);
        }

        try
        {
            int direct = (int)Math.Clamp(edge - offset, 0, buffer.Length);
            if (direct > 0)
            {
                _directTransfer!.Read(offset, buffer.Span[..direct]);
            }

            if (direct < buffer.Length)
            {
                _buffered.Read(offset + direct, buffer.Span[direct..]);
            }

            return default;
        }
        finally
        {
            _edge.Exit(slot);
        }
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        if (_edge is null)
        {
            try
            {
                _buffered.Write(offset, buffer.Span, flags);
                return default;
            }
            finally
            {
                _holes.NoteChange();
            }
        }

        if (!_edge.TryEnter(out int slot, out long edge))
        {
            return WriteLaterAsync(_edge, offset, buffer, flags, cancellationToken);
        }

        try
        {
            int direct = (int)Math.Clamp(edge - offset, 0, buffer.Length);
            if (direct > 0)
            {
                _directTransfer!.Write(offset, buffer.Span[..direct], flags);
            }

            if (direct < buffer.Length)
            {
                _buffered.Write(offset + direct, buffer.Span[direct..], flags);
            }

            return default;
        }
        finally
        {
            _holes.NoteChange();
            _edge.Exit(slot);
        }
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        try
        {
            bool done = _space.TryZero(offset, count, (flags & ZeroFlags.MayUnmap) != 0);
            if (done && (flags & ZeroFlags.Fua) != 0)
            {
                _sync.Flush();
            }

            return new(done);
        }
        finally
        {
            _holes.NoteChange();
        }
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryDiscardAsync(long offset, long count, CancellationToken cancellationToken)
    {
        try
        {
            return new(_space.TryDiscard(offset, count));
        }
        finally
        {
            _holes.NoteChange();
        }
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryAllocateAsync(long offset, long count, CancellationToken cancellationToken)
    {
        try
        {
            return new(_space.TryAllocate(offset, count));
        }
        finally
        {
            _holes.NoteChange();
        }
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        if (_writable)
        {
            _sync.Flush();
        }

        return default;
    }

    /// <inheritdoc/>
    public override ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken) =>
        new(_holes.Map(offset, count));

    /// <summary>
    /// Changes the length with ftruncate(2). Cheap: one system call, and other requests go on meanwhile (but see
    /// <see cref="DirectEdge"/>). Concurrent calls are done one after the other, and the last one decides: whoever
    /// grows a file from several threads orders them himself.
    /// </summary>
    public override async ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        if (!_stat.IsRegular)
        {
            return newLength == Length;
        }

        await _oneResize.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_edge is null || !_edge.MustMove(newLength))
            {
                Truncate(newLength);
                return true;
            }

            await _edge.BeginMoveAsync().ConfigureAwait(false);
            try
            {
                Truncate(newLength);
                return true;
            }
            finally
            {
                _edge.EndMove(Length);
            }
        }
        finally
        {
            _oneResize.Release();
        }
    }

    /// <inheritdoc/>
    public override bool TryGetHostFile(out HostFileRegion region)
    {
        if (!_stat.IsRegular)
        {
            return base.TryGetHostFile(out region); // The kernel serves only regular files by itself.
        }

        _holes.StopKeeping();
        region = new HostFileRegion(_handle, 0);
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        int errno = -Stat.TryGet(_handle, out StatInfo stat);
        if (errno != 0)
        {
            throw HostErrors.Make(errno, "cannot find out the size", _name);
        }

        info.ActualSize = stat.IsRegular ? stat.Blocks * 512 : Length;
        return default;
    }

    /// <inheritdoc/>
    public override ValueTask CloseAsync()
    {
        _locks?.Release();
        _direct?.Handle.Dispose();
        _durable?.Dispose();
        _handle.Dispose();
        _oneResize.Dispose();
        return default;
    }

    private BlockCapabilities WriteCapabilities(bool mayFree) =>
        BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Fua
        | (mayFree ? BlockCapabilities.Discard : 0)
        | (_stat.IsRegular ? BlockCapabilities.Resize : 0);

    private void Truncate(long newLength)
    {
        long oldLength = _length;
        if (newLength < oldLength)
        {
            // No request may still be let into what goes away.
            Volatile.Write(ref _length, newLength);
        }

        int errno = -SysFtruncate.Truncate((int)_handle.DangerousGetHandle(), newLength);
        Volatile.Write(ref _length, errno == 0 ? newLength : oldLength);
        _holes.NoteChange();
        if (errno != 0)
        {
            throw HostErrors.Make(errno, $"cannot change the length from {oldLength} to {newLength} bytes", _name);
        }
    }

    private async ValueTask ReadLaterAsync(
        DirectEdge edge, long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        await edge.WhenMovedAsync().ConfigureAwait(false);
        await ReadAsync(offset, buffer, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask WriteLaterAsync(
        DirectEdge edge, long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags,
        CancellationToken cancellationToken)
    {
        await edge.WhenMovedAsync().ConfigureAwait(false);
        await WriteAsync(offset, buffer, flags, cancellationToken).ConfigureAwait(false);
    }
}

/// <summary>A file that has been opened, checked and locked: what a <see cref="FileDevice"/> is made of.</summary>
internal readonly record struct OpenedFile
{
    /// <summary>What messages call it.</summary>
    public required string Name { get; init; }

    /// <summary>The buffered descriptor.</summary>
    public required SafeFileHandle Handle { get; init; }

    /// <summary>The direct descriptor, if there is one.</summary>
    public DirectIo? Direct { get; init; }

    /// <summary>A buffered descriptor for durable writes, if there is one.</summary>
    public SafeFileHandle? Durable { get; init; }

    /// <summary>Locks held on <see cref="Handle"/>, if any.</summary>
    public FileLocks? Locks { get; init; }

    /// <summary>Of the file when it was opened.</summary>
    public required StatInfo Stat { get; init; }

    /// <summary>Bytes.</summary>
    public required long Length { get; init; }

    /// <summary>0 for a regular file; the logical block size of a device, bytes.</summary>
    public int DeviceBlock { get; init; }

    /// <summary>True when the descriptors may be written.</summary>
    public required bool Writable { get; init; }
}
