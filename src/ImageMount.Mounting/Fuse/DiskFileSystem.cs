using ImageMount.Core.Block;
using ImageMount.Fuse;
using ImageMount.Interop;
using ImageMount.Mounting.Reports;
using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Fuse;

/// <summary>
/// Serves a <see cref="MountTree"/> through FUSE: inode → window → block node. Names and attributes are
/// <see cref="FuseNodes"/>, open files and coherence <see cref="FuseOpenFiles"/>, holes and sizes <see
/// cref="DiskRanges"/>.
/// </summary>
/// <remarks>
/// READ and WRITE allocate nothing when the node completes synchronously. Requests to a disk are not cancelled by
/// signals: a disk does not answer EINTR, and a half-done allocation helps nobody; only searches through the map are.
/// </remarks>
public sealed class DiskFileSystem : FuseFileSystem
{
    // open(2)
    private const int O_ACCMODE = 3;
    private const int O_WRONLY = 1;
    private const int O_RDWR = 2;

    // lseek(2)
    private const int SEEK_DATA = 3;

    private readonly MountTree _tree;
    private readonly FuseNodes _nodes;
    private readonly FuseOpenFiles _files;
    private volatile bool _isCutOff;

    /// <summary>Prepares to serve a tree.</summary>
    public DiskFileSystem(MountTree tree, FuseMountOptions options)
    {
        _tree = tree;
        _nodes = new FuseNodes(tree, options);
        _files = new FuseOpenFiles(tree, options);
    }

    /// <summary>Counters of the requests to disk files.</summary>
    public DiskStatistics Statistics { get; } = new();

    /// <summary>
    /// True when disk.raw is byte for byte a host file and the kernel may serve readers by itself. Exclusive with
    /// delayed writes, a rule of the kernel. Writers are never passed through: the kernel would let them run past the
    /// end of the disk and make the host file longer.
    /// </summary>
    public bool WantsPassthrough => _files.WantsPassthrough;

    /// <summary>Open files now.</summary>
    public int OpenFiles => _files.Count;

    /// <summary>From now on every request fails: the disk is about to be closed under those who still use it.</summary>
    public void CutOff() => _isCutOff = true;

    /// <inheritdoc/>
    public override async ValueTask InitializeAsync(IFuseConnection connection, CancellationToken cancellationToken)
    {
        _files.Connection = connection;
        await _nodes.Allocated.ReadAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override int MapException(Exception exception) => exception is BlockException block
        ? BlockErrno.Of(block)
        : base.MapException(exception);

    /// <inheritdoc/>
    public override ValueTask<int> ReadAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
        CancellationToken cancellationToken)
    {
        if (Find(inode) is not DiskFile file)
        {
            return ReadReportAsync(handle, offset, destination, cancellationToken);
        }

        long started = DiskStatistics.Now;
        try
        {
            ValueTask<int> task = file.ReadAsync(offset, destination, CancellationToken.None);
            if (!task.IsCompletedSuccessfully)
            {
                return FinishAsync(DiskOperation.Read, task, started);
            }

            int count = task.Result;
            Statistics.Succeeded(DiskOperation.Read, count, started);
            return new(count);
        }
        catch (BlockException)
        {
            Statistics.Failed(DiskOperation.Read);
            throw;
        }
    }

    /// <inheritdoc/>
    public override ValueTask<int> WriteAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, ReadOnlyMemory<byte> data,
        FuseWriteInfo info, CancellationToken cancellationToken)
    {
        if (Find(inode) is not DiskFile file)
        {
            return new(-Errno.EROFS);
        }

        long started = DiskStatistics.Now;
        try
        {
            WriteFlags flags = info.IsSynchronous ? WriteFlags.Fua : WriteFlags.None;
            ValueTask<int> task = file.WriteAsync(offset, data, flags, CancellationToken.None);
            if (!task.IsCompletedSuccessfully)
            {
                return FinishWriteAsync(file, task, data.Length, info, started);
            }

            int count = task.Result;
            Statistics.Succeeded(DiskOperation.Write, count, started);
            return new(count == data.Length ? count : AnswerShortWrite(file, count, info));
        }
        catch (BlockException)
        {
            Statistics.Failed(DiskOperation.Write);
            throw;
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<int> FsyncAsync(
        FuseRequestContext context, ulong inode, ulong handle, bool dataOnly, CancellationToken cancellationToken)
    {
        TreeNode? node = Find(inode);
        if (node is ReportFile report)
        {
            await report.SyncAsync().ConfigureAwait(false);
            return 0;
        }

        if (node is not DiskFile { CanWrite: true } file)
        {
            return 0;
        }

        long started = DiskStatistics.Now;
        try
        {
            await file.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        }
        catch (BlockException)
        {
            Statistics.Failed(DiskOperation.Flush);
            throw;
        }

        Statistics.Succeeded(DiskOperation.Flush, 0, started);
        await _files.TellOthersAsync(file).ConfigureAwait(false);
        return 0;
    }

    /// <summary>
    /// A close(2) is no durability point (the image is not flushed), but the other files must show what was written.
    /// </summary>
    public override async ValueTask<int> FlushAsync(
        FuseRequestContext context, ulong inode, ulong handle, CancellationToken cancellationToken)
    {
        if (Find(inode) is DiskFile { CanWrite: true } file)
        {
            await _files.TellOthersAsync(file).ConfigureAwait(false);
        }

        return 0;
    }

    /// <inheritdoc/>
    public override async ValueTask<FuseResult<FuseEntry>> LookupAsync(
        FuseRequestContext context, ulong parent, FuseName name, CancellationToken cancellationToken)
    {
        if (Find(parent) is not TreeDirectory directory)
        {
            return new FuseError(Errno.ENOTDIR);
        }

        TreeNode? node = await directory.FindAsync(name.Bytes, cancellationToken).ConfigureAwait(false);
        return node is null ? new FuseError(Errno.ENOENT) : _nodes.EntryOf(node);
    }

    /// <inheritdoc/>
    public override ValueTask<FuseResult<FuseAttributes>> GetAttributesAsync(
        FuseRequestContext context, ulong inode, ulong? handle, CancellationToken cancellationToken)
    {
        TreeNode? node = Find(inode);
        if (node is null)
        {
            return FuseResult<FuseAttributes>.Failed(Errno.ENOENT);
        }

        // The way to stop a program whose delayed writes ran past the end: see AnswerShortWrite.
        if (handle is { } number && _nodes.StateOf(node).Overran && _files.Find(number) is { Writes: true })
        {
            return FuseResult<FuseAttributes>.Failed(Errno.ENOSPC);
        }

        return FuseResult<FuseAttributes>.Completed(_nodes.AttributesOf(node));
    }

    /// <inheritdoc/>
    public override async ValueTask<FuseResult<FuseAttributes>> SetAttributesAsync(
        FuseRequestContext context, ulong inode, FuseSetAttributes change, CancellationToken cancellationToken)
    {
        TreeNode? node = Find(inode);
        if (node is null)
        {
            return new FuseError(Errno.ENOENT);
        }

        if (change.Has(FuseSetAttributesMask.Size))
        {
            int error = await DiskRanges.ResizeAsync(node, change.Size).ConfigureAwait(false);
            if (error != 0)
            {
                return new FuseError(error);
            }
        }

        _nodes.StateOf(node).Change(change);
        return _nodes.AttributesOf(node);
    }

    /// <inheritdoc/>
    public override ValueTask<FuseResult<FuseStatfs>> StatfsAsync(
        FuseRequestContext context, ulong inode, CancellationToken cancellationToken)
    {
        const uint BlockSize = 4096;
        return FuseResult<FuseStatfs>.Completed(new FuseStatfs
        {
            Blocks = (ulong)((_tree.Disk.Length + BlockSize - 1) / BlockSize),
            BlockSize = BlockSize,
            FragmentSize = BlockSize,
            Files = (ulong)_tree.Count,
            NameLength = 255,
        });
    }

    /// <inheritdoc/>
    public override async ValueTask<int> ReadDirectoryAsync(
        FuseRequestContext context, ulong inode, ulong handle, ulong offset, FuseDirectoryWriter writer,
        CancellationToken cancellationToken)
    {
        if (Find(inode) is not TreeDirectory directory)
        {
            return -Errno.ENOTDIR;
        }

        IReadOnlyList<TreeNode> entries = await directory.GetEntriesAsync(cancellationToken).ConfigureAwait(false);
        for (ulong at = offset; at < (ulong)entries.Count + 2; at++)
        {
            bool added = at switch
            {
                0 => writer.TryAdd("."u8, 1, FuseNodes.DotOf(directory)),
                1 => writer.TryAdd(".."u8, 2, FuseNodes.DotOf(directory.Parent ?? directory)),
                _ => writer.TryAdd(entries[(int)at - 2].Utf8Name.Span, at + 1, _nodes.EntryOf(entries[(int)at - 2])),
            };
            if (!added)
            {
                break;
            }
        }

        return 0;
    }

    /// <inheritdoc/>
    public override ValueTask<FuseResult<FuseOpenReply>> OpenAsync(
        FuseRequestContext context, ulong inode, int flags, CancellationToken cancellationToken)
    {
        bool writes = (flags & O_ACCMODE) is O_WRONLY or O_RDWR;
        switch (Find(inode))
        {
            case DiskFile file:
                return writes && !file.CanWrite
                    ? FuseResult<FuseOpenReply>.Failed(Errno.EROFS)
                    : _files.OpenAsync(file, reads: (flags & O_ACCMODE) != O_WRONLY, writes);
            case ReportFile report:
                return writes
                    ? FuseResult<FuseOpenReply>.Failed(Errno.EROFS)
                    : FuseResult<FuseOpenReply>.Completed(new FuseOpenReply(
                        _files.Open(report), FuseOpenFlags.DirectIo));
            case null:
                return FuseResult<FuseOpenReply>.Failed(Errno.ENOENT);
            default:
                return FuseResult<FuseOpenReply>.Failed(Errno.EISDIR);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<int> ReleaseAsync(
        FuseRequestContext context, ulong inode, ulong handle, int flags, CancellationToken cancellationToken)
    {
        if (await _files.CloseAsync(handle).ConfigureAwait(false) is { } written)
        {
            await ForgetOverrunAsync(written).ConfigureAwait(false);
        }

        return 0;
    }

    /// <inheritdoc/>
    public override async ValueTask<long> SeekAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, int whence,
        CancellationToken cancellationToken)
    {
        if (Find(inode) is not DiskFile file)
        {
            return -Errno.EINVAL;
        }

        // The kernel asks without writing back first. What it holds may lie in what we take for a hole.
        await _files.CallInDelayedWritesAsync(file).ConfigureAwait(false);
        long found = await file.SeekAsync(offset, whence == SEEK_DATA, cancellationToken).ConfigureAwait(false);
        return found < 0 ? -Errno.ENXIO : found;
    }

    /// <inheritdoc/>
    public override async ValueTask<int> FallocateAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, long length, int mode,
        CancellationToken cancellationToken)
    {
        if (Find(inode) is not DiskFile { CanWrite: true } file)
        {
            return -Errno.EROFS;
        }

        long started = DiskStatistics.Now;
        try
        {
            int result = await DiskRanges.FallocateAsync(file, offset, length, mode).ConfigureAwait(false);
            if (result == 0)
            {
                Statistics.Succeeded(DiskOperation.Zero, length, started);
            }

            return result;
        }
        catch (BlockException)
        {
            Statistics.Failed(DiskOperation.Zero);
            throw;
        }
    }

    /// <inheritdoc/>
    public override ValueTask<long> CopyFileRangeAsync(
        FuseRequestContext context, ulong sourceInode, ulong sourceHandle, long sourceOffset,
        ulong targetInode, ulong targetHandle, long targetOffset, long length, uint flags,
        CancellationToken cancellationToken)
    {
        if (Find(sourceInode) is not DiskFile source || Find(targetInode) is not DiskFile target)
        {
            return new(-Errno.EINVAL);
        }

        return target.CanWrite
            ? DiskRanges.CopyAsync(source, sourceOffset, target, targetOffset, length, cancellationToken)
            : new(-Errno.EROFS);
    }

    private TreeNode? Find(ulong inode) => _isCutOff
        ? throw new FuseException(Errno.EIO, "the mount is being ended")
        : _tree.Find(inode);

    private async ValueTask<int> FinishAsync(DiskOperation operation, ValueTask<int> task, long started)
    {
        try
        {
            int count = await task.ConfigureAwait(false);
            Statistics.Succeeded(operation, count, started);
            return count;
        }
        catch (BlockException)
        {
            Statistics.Failed(operation);
            throw;
        }
    }

    private async ValueTask<int> FinishWriteAsync(
        DiskFile file, ValueTask<int> task, int wanted, FuseWriteInfo info, long started)
    {
        int count = await FinishAsync(DiskOperation.Write, task, started).ConfigureAwait(false);
        return count == wanted ? count : AnswerShortWrite(file, count, info);
    }

    /// <summary>
    /// A write met the end of the disk. An ordinary one is answered as a block device does: what fits, then ENOSPC. A
    /// delayed one cannot be: the program has been told "written" long ago. It gets ENOSPC from fsync and close; and
    /// because it may go on and on until then, its next write, which makes the kernel ask for attributes, fails too.
    /// </summary>
    private int AnswerShortWrite(DiskFile file, int count, FuseWriteInfo info)
    {
        if ((info.Flags & FuseWriteFlags.Cache) == 0)
        {
            return count > 0 ? count : -Errno.ENOSPC;
        }

        _nodes.StateOf(file).Overran = true;
        return -Errno.ENOSPC;
    }

    private async ValueTask<int> ReadReportAsync(
        ulong handle, long offset, Memory<byte> destination, CancellationToken cancellationToken) =>
        _files.Find(handle)?.Report is { } report
            ? await report.ReadAsync(offset, destination, cancellationToken).ConfigureAwait(false)
            : -Errno.EBADF;

    /// <summary>
    /// After delayed writes past the end the kernel believes in a longer file than there is. Dropping the name makes it
    /// drop the inode, and with it the belief, when the file is closed.
    /// </summary>
    private async ValueTask ForgetOverrunAsync(DiskFile file)
    {
        NodeState state = _nodes.StateOf(file);
        if (!state.Overran || file.Parent is not { } parent || _files.Connection is not { } connection)
        {
            return;
        }

        state.Overran = false;
        await Task.Run(() => connection.NotifyInvalidateEntry(parent.Id, file.Utf8Name.Span)).ConfigureAwait(false);
    }
}
