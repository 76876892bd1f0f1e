using ImageMount.Core.Block;
using ImageMount.Fuse;
using ImageMount.Interop;
using ImageMount.Mounting.Tree;

namespace ImageMount.Mounting.Fuse;

/// <summary>
/// Open files: how each is opened (<see cref="Coherence"/> decides), what its handle stands for, and telling the kernel
/// when what it caches of one file was changed through another.
/// </summary>
internal sealed class FuseOpenFiles
{
    private readonly HandleTable _handles = new();
    private readonly Coherence _coherence;
    private readonly Action<string, Exception?>? _warning;
    private readonly Lock _backingLock = new();
    private readonly MountTree _tree;
    private readonly Func<ValueTask>? _beforeFirstOpen;
    private readonly SemaphoreSlim _oneOpening = new(1, 1);
    private int _openDisks;
    private int _backingId;

    public FuseOpenFiles(MountTree tree, FuseMountOptions options)
    {
        _tree = tree;
        _warning = options.Warning;
        _beforeFirstOpen = options.BeforeFirstOpen;
        WantsPassthrough = CanPassThrough(tree.Disk, options);
        _coherence = new Coherence(
            new CoherenceRules(
                PageCache: options.Cache.UsesPageCache(),
                DelayedWrites: options.Cache.DelaysWrites() && !WantsPassthrough,
                Passthrough: WantsPassthrough ? tree.Disk : null),
            tree.DiskFiles);
    }

    /// <summary>See <see cref="DiskFileSystem.WantsPassthrough"/>.</summary>
    public bool WantsPassthrough { get; }

    /// <summary>The way to the kernel; set once at INIT.</summary>
    public IFuseConnection? Connection { get; set; }

    /// <summary>Open files now.</summary>
    public int Count => _handles.Count;

    /// <summary>What a handle stands for, or null.</summary>
    public OpenFile? Find(ulong handle) => _handles.Find(handle);

    /// <summary>Opens a report; the answer is its handle.</summary>
    public ulong Open(ReportFile report) => _handles.Add(new OpenFile { Report = report.Open() });

    /// <summary>Opens a disk file.</summary>
    public async ValueTask<FuseResult<FuseOpenReply>> OpenAsync(DiskFile file, bool reads, bool writes)
    {
        if (_beforeFirstOpen is null)
        {
            return await OpenNowAsync(file, reads, writes).ConfigureAwait(false);
        }

        await _oneOpening.WaitAsync().ConfigureAwait(false);
        try
        {
            if (Volatile.Read(ref _openDisks) == 0)
            {
                // Not on this thread, which serves requests: what is called may take long, or may come back to us.
                await Task.Factory.StartNew(
                    () => _beforeFirstOpen().AsTask(), CancellationToken.None, TaskCreationOptions.LongRunning,
                    TaskScheduler.Default).Unwrap().ConfigureAwait(false);
                await InvalidateAsync(_tree.DiskFiles, _tree.Disk).ConfigureAwait(false);
            }

            return await OpenNowAsync(file, reads, writes).ConfigureAwait(false);
        }
        finally
        {
            _oneOpening.Release();
        }
    }

    private async ValueTask<FuseResult<FuseOpenReply>> OpenNowAsync(DiskFile file, bool reads, bool writes)
    {
        OpenPlan plan = _coherence.Open(file, reads, writes);
        try
        {
            if (plan.Caching == OpenCaching.Passthrough && !RegisterBacking(file))
            {
                _coherence.Close(file, plan.Caching, writes);
                _coherence.DisablePassthrough();
                plan = _coherence.Open(file, reads, writes);
            }

            await InvalidateAsync(plan.WriteBackFirst, file).ConfigureAwait(false);
        }
        catch
        {
            _coherence.Close(file, plan.Caching, writes);
            throw;
        }

        Interlocked.Increment(ref _openDisks);
        ulong handle = _handles.Add(new OpenFile { Disk = file, Caching = plan.Caching, Writes = writes });
        return plan.Caching switch
        {
            OpenCaching.Passthrough => new FuseOpenReply(handle, FuseOpenFlags.Passthrough, _backingId),
            OpenCaching.Direct => new FuseOpenReply(
                handle, FuseOpenFlags.DirectIo | FuseOpenFlags.ParallelDirectWrites),
            _ => new FuseOpenReply(handle, plan.KeepCache ? FuseOpenFlags.KeepCache : FuseOpenFlags.None),
        };
    }

    /// <summary>
    /// The last reference to an open file is gone. The answer is the disk file if it was written, else null.
    /// </summary>
    public async ValueTask<DiskFile?> CloseAsync(ulong handle)
    {
        if (_handles.Remove(handle) is not { } open)
        {
            return null;
        }

        if (open.Report is { } report)
        {
            await report.DisposeAsync().ConfigureAwait(false);
        }

        if (open.Disk is not { } file)
        {
            return null;
        }

        _coherence.Close(file, open.Caching, open.Writes);
        Interlocked.Decrement(ref _openDisks);
        if (!open.Writes)
        {
            return null;
        }

        await TellOthersAsync(file).ConfigureAwait(false);
        return file;
    }

    /// <summary>The other files are to show what was written through this one and has reached us.</summary>
    public ValueTask TellOthersAsync(DiskFile file) => InvalidateAsync(_coherence.TakeStale(file), file);

    /// <summary>Calls in writes to a file that the kernel may hold back.</summary>
    public ValueTask CallInDelayedWritesAsync(DiskFile file) =>
        _coherence.MayHoldDelayedWrites(file) ? InvalidateAsync([file], file) : default;

    private static bool CanPassThrough(DiskFile disk, FuseMountOptions options) =>
        options.Cache == CacheMode.Writeback
        && !options.Growable
        && SysUser.EffectiveId == 0
        && disk.Node.TryGetHostFile(out HostFileRegion region)
        && region.Offset == 0
        && RandomAccess.GetLength(region.Handle) == disk.Length;

    /// <summary>Registers the host file once; false when the kernel will not have it.</summary>
    private bool RegisterBacking(DiskFile file)
    {
        lock (_backingLock)
        {
            if (_backingId > 0)
            {
                return true;
            }

            if (Connection is null || !file.Node.TryGetHostFile(out HostFileRegion region))
            {
                return false;
            }

            _backingId = Connection.RegisterBacking(region.Handle);
            if (_backingId <= 0)
            {
                _warning?.Invoke(
                    $"the kernel does not pass {file.Path} through ({Errno.Format(_backingId)}); "
                    + "it is served the ordinary way",
                    null);
            }

            return _backingId > 0;
        }
    }

    /// <summary>
    /// Makes the kernel write back and drop what it caches of these files where they show bytes of
    /// <paramref name="cause"/>. That may call for WRITEs, which our workers serve: hence a thread that is none of
    /// them.
    /// </summary>
    private async ValueTask InvalidateAsync(IReadOnlyList<DiskFile> files, DiskFile cause)
    {
        if (files.Count == 0 || Connection is not { } connection)
        {
            return;
        }

        await Task.Factory.StartNew(
            () =>
            {
                foreach (DiskFile file in files)
                {
                    long from = Math.Max(file.Offset, cause.Offset);
                    long to = Math.Min(file.Offset + file.Length, cause.Offset + cause.Length);
                    int result = connection.NotifyInvalidateInode(file.Id, from - file.Offset, to - from);
                    if (result is not (0 or -Errno.ENOENT))
                    {
                        _warning?.Invoke(
                            $"the kernel's cache of {file.Path} could not be dropped ({Errno.Format(result)})", null);
                    }
                }
            },
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default).ConfigureAwait(false);
    }
}
