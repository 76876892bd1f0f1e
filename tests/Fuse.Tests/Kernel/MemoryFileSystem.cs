namespace ImageMount.Fuse.Tests.Kernel;

/// <summary>A small file system in memory for tests against the kernel: a root directory with files 2 … n, or a root
/// that is itself the file (file mode). Files are sparse in units of 4 KiB.</summary>
internal class MemoryFileSystem : FuseFileSystem
{
    private static readonly TimeSpan s_validity = TimeSpan.FromSeconds(10);
    private readonly Dictionary<ulong, MemoryFile> _files = [];
    private readonly Dictionary<string, ulong> _names = [];
    private readonly bool _rootIsFile;
    private int _destroyed;

    public MemoryFileSystem(bool rootIsFile = false)
    {
        _rootIsFile = rootIsFile;
        if (rootIsFile)
        {
            _files[RootInode] = new MemoryFile();
        }
    }

    public IFuseConnection? Connection { get; private set; }

    public FuseOpenFlags OpenFlags { get; set; }

    public int Destroyed => Volatile.Read(ref _destroyed);

    public int Fsyncs;

    public uint LastUid;

    public Exception? DestroyFails { get; set; }

    public uint Owner { get; init; }

    public MemoryFile Root => _files[RootInode];

    public MemoryFile Add(string name, long size = 0)
    {
        ulong inode = (ulong)_names.Count + 2;
        var file = new MemoryFile { Size = size };
        _names[name] = inode;
        _files[inode] = file;
        return file;
    }

    public override ValueTask InitializeAsync(IFuseConnection connection, CancellationToken cancellationToken)
    {
        Connection = connection;
        return default;
    }

    public override ValueTask DestroyAsync()
    {
        Interlocked.Increment(ref _destroyed);
        return DestroyFails is null ? default : ValueTask.FromException(DestroyFails);
    }

    public override ValueTask<FuseResult<FuseEntry>> LookupAsync(
        FuseRequestContext context, ulong parent, FuseName name, CancellationToken cancellationToken)
    {
        LastUid = context.Uid;
        return _names.TryGetValue(name.ToString(), out ulong inode)
            ? FuseResult<FuseEntry>.Completed(Entry(inode))
            : FuseResult<FuseEntry>.Failed(Errno.ENOENT);
    }

    public override ValueTask<FuseResult<FuseAttributes>> GetAttributesAsync(
        FuseRequestContext context, ulong inode, ulong? handle, CancellationToken cancellationToken) =>
        FuseResult<FuseAttributes>.Completed(Attributes(inode));

    public override ValueTask<FuseResult<FuseAttributes>> SetAttributesAsync(
        FuseRequestContext context, ulong inode, FuseSetAttributes change, CancellationToken cancellationToken)
    {
        if (change.Has(FuseSetAttributesMask.Size))
        {
            _files[inode].SetSize(change.Size);
        }
        return FuseResult<FuseAttributes>.Completed(Attributes(inode));
    }

    public override ValueTask<FuseResult<FuseOpenReply>> OpenAsync(
        FuseRequestContext context, ulong inode, int flags, CancellationToken cancellationToken) =>
        FuseResult<FuseOpenReply>.Completed(new FuseOpenReply(inode, OpenFlags));

    public override ValueTask<int> ReadAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
        CancellationToken cancellationToken) => new(_files[inode].Read(offset, destination.Span));

    public override ValueTask<int> WriteAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, ReadOnlyMemory<byte> data,
        FuseWriteInfo info, CancellationToken cancellationToken)
    {
        _files[inode].Write(offset, data.Span);
        return new(data.Length);
    }

    public override ValueTask<int> FsyncAsync(
        FuseRequestContext context, ulong inode, ulong handle, bool dataOnly, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref Fsyncs);
        return new(0);
    }

    public override ValueTask<int> FallocateAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, long length, int mode,
        CancellationToken cancellationToken) => new(_files[inode].Fallocate(offset, length, mode));

    public override ValueTask<long> SeekAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, int whence,
        CancellationToken cancellationToken) => new(_files[inode].Seek(offset, data: whence == 3));

    public override ValueTask<int> ReadDirectoryAsync(
        FuseRequestContext context, ulong inode, ulong handle, ulong offset, FuseDirectoryWriter writer,
        CancellationToken cancellationToken)
    {
        ulong position = 0;
        foreach ((string name, ulong child) in _names.OrderBy(n => n.Value))
        {
            position++;
            if (position > offset && !writer.TryAdd(name, position, Entry(child)))
            {
                break;
            }
        }
        return new(0);
    }

    private FuseEntry Entry(ulong inode) =>
        new() { Inode = inode, Validity = s_validity, Attributes = Attributes(inode) };

    private FuseAttributes Attributes(ulong inode)
    {
        if (inode == RootInode && !_rootIsFile)
        {
            return new FuseAttributes
            {
                Mode = FuseMode.S_IFDIR | 0x1ED,
                LinkCount = 2,
                Uid = Owner,
                Validity = s_validity,
            };
        }
        MemoryFile file = _files[inode];
        return new FuseAttributes
        {
            Mode = FuseMode.S_IFREG | 0x1A4,
            LinkCount = 1,
            Uid = Owner,
            Size = file.Size,
            Blocks = file.Blocks,
            BlockSize = 65536,
            Validity = s_validity,
        };
    }
}

/// <summary>A sparse file in memory; safe from several threads.</summary>
internal sealed class MemoryFile
{
    private const int Page = 4096;
    private readonly SortedDictionary<long, byte[]> _pages = [];
    private readonly Lock _lock = new();
    private long _size;

    public long Size
    {
        get
        {
            lock (_lock)
            {
                return _size;
            }
        }
        init => _size = value;
    }

    public long Blocks
    {
        get
        {
            lock (_lock)
            {
                return _pages.Count * (Page / 512);
            }
        }
    }

    public int Read(long offset, Span<byte> to)
    {
        lock (_lock)
        {
            int count = (int)Math.Clamp(_size - offset, 0, to.Length);
            for (int done = 0; done < count;)
            {
                int within = (int)((offset + done) % Page);
                int part = Math.Min(Page - within, count - done);
                if (_pages.TryGetValue((offset + done) / Page, out byte[]? page))
                {
                    page.AsSpan(within, part).CopyTo(to[done..]);
                }
                else
                {
                    to.Slice(done, part).Clear();
                }
                done += part;
            }
            return count;
        }
    }

    public void Write(long offset, ReadOnlySpan<byte> data)
    {
        lock (_lock)
        {
            for (int done = 0; done < data.Length;)
            {
                int within = (int)((offset + done) % Page);
                int part = Math.Min(Page - within, data.Length - done);
                long index = (offset + done) / Page;
                if (!_pages.TryGetValue(index, out byte[]? page))
                {
                    _pages[index] = page = new byte[Page];
                }
                data.Slice(done, part).CopyTo(page.AsSpan(within));
                done += part;
            }
            _size = Math.Max(_size, offset + data.Length);
        }
    }

    public void SetSize(long size)
    {
        lock (_lock)
        {
            if (size < _size)
            {
                Zero(size, _size - size);
            }
            _size = size;
        }
    }

    public int Fallocate(long offset, long length, int mode)
    {
        const int KeepSize = 1;
        const int PunchHole = 2;
        const int ZeroRange = 16;
        lock (_lock)
        {
            if ((mode & ~(KeepSize | PunchHole | ZeroRange)) != 0)
            {
                return -Errno.EOPNOTSUPP;
            }
            if ((mode & (PunchHole | ZeroRange)) != 0)
            {
                Zero(offset, length);
            }
            if ((mode & KeepSize) == 0)
            {
                _size = Math.Max(_size, offset + length);
            }
            return 0;
        }
    }

    public long Seek(long offset, bool data)
    {
        lock (_lock)
        {
            if (offset >= _size)
            {
                return -Errno.ENXIO;
            }
            for (long at = offset; at < _size; at = (at / Page + 1) * Page)
            {
                if (_pages.ContainsKey(at / Page) == data)
                {
                    return at;
                }
            }
            return data ? -Errno.ENXIO : _size;
        }
    }

    private void Zero(long offset, long length)
    {
        long end = Math.Min(offset + length, Math.Max(_size, offset));
        for (long at = offset; at < end;)
        {
            int within = (int)(at % Page);
            int part = (int)Math.Min(Page - within, end - at);
            if (part == Page)
            {
                _pages.Remove(at / Page);
            }
            else if (_pages.TryGetValue(at / Page, out byte[]? page))
            {
                page.AsSpan(within, part).Clear();
            }
            at += part;
        }
    }
}
