using System.Text;
using ImageMount.Fuse;

namespace ImageMount.Fuse.Tests.Wire;

/// <summary>Writes down every call with its arguments and gives fixed answers, the same the wire cases
/// expect.</summary>
internal sealed class RecordingFileSystem : FuseFileSystem
{
    public List<string> Calls { get; } = [];

    public string LastCall => Calls.Count == 0 ? "" : Calls[^1];

    /// <summary>Every operation throws this, if set.</summary>
    public Exception? Throws { get; set; }

    /// <summary>Every integer answer is this, if set.</summary>
    public long? Answers { get; set; }

    public static FuseAttributes Attributes { get; } = new()
    {
        Inode = 77,
        Size = 0x123456789,
        Blocks = 8,
        AccessTime = new FuseTimestamp(1, 2),
        ModifyTime = new FuseTimestamp(3, 4),
        ChangeTime = new FuseTimestamp(5, 6),
        Mode = FuseMode.S_IFREG | 0x1A4,
        LinkCount = 9,
        Uid = 10,
        Gid = 11,
        Device = 12,
        BlockSize = 4096,
        Validity = TimeSpan.FromMilliseconds(1500),
    };

    public static FuseEntry Entry { get; } = new()
    {
        Inode = 77,
        Generation = 13,
        Validity = TimeSpan.FromSeconds(14),
        Attributes = Attributes,
    };

    public override ValueTask InitializeAsync(IFuseConnection connection, CancellationToken cancellationToken)
    {
        Record("init");
        return default;
    }

    public override ValueTask DestroyAsync()
    {
        Record("destroy");
        return default;
    }

    public override ValueTask<FuseResult<FuseEntry>> LookupAsync(
        FuseRequestContext context, ulong parent, FuseName name, CancellationToken cancellationToken) =>
        EntryOf($"lookup {parent} {name} uid={context.Uid} gid={context.Gid} pid={context.Pid}");

    public override void Forget(ulong inode, ulong lookupCount) => Record($"forget {inode} {lookupCount}");

    public override ValueTask<FuseResult<FuseAttributes>> GetAttributesAsync(
        FuseRequestContext context, ulong inode, ulong? handle, CancellationToken cancellationToken) =>
        AttributesOf($"getattr {inode} {handle}");

    public override ValueTask<FuseResult<FuseAttributes>> SetAttributesAsync(
        FuseRequestContext context, ulong inode, FuseSetAttributes change, CancellationToken cancellationToken) =>
        AttributesOf($"setattr {inode} {(uint)change.Mask} fh={change.Handle} size={change.Size} mode={change.Mode} "
            + $"uid={change.Uid} gid={change.Gid} a={change.AccessTime.Seconds}.{change.AccessTime.Nanoseconds} "
            + $"m={change.ModifyTime.Seconds}.{change.ModifyTime.Nanoseconds} "
            + $"c={change.ChangeTime.Seconds}.{change.ChangeTime.Nanoseconds}");

    public override ValueTask<FuseResult<FuseStatx>> StatxAsync(
        FuseRequestContext context, ulong inode, ulong? handle, uint flags, uint mask,
        CancellationToken cancellationToken)
    {
        Record($"statx {inode} {handle} {flags} {mask}");
        return FuseResult<FuseStatx>.Completed(
            new FuseStatx { Attributes = Attributes, BirthTime = new FuseTimestamp(15, 16) });
    }

    public override ValueTask<int> AccessAsync(
        FuseRequestContext context, ulong inode, uint mask, CancellationToken cancellationToken) =>
        Status($"access {inode} {mask}");

    public override ValueTask<int> ReadLinkAsync(
        FuseRequestContext context, ulong inode, Memory<byte> destination, CancellationToken cancellationToken)
    {
        "to/there"u8.CopyTo(destination.Span);
        return Status($"readlink {inode} {destination.Length}", 8);
    }

    public override ValueTask<FuseResult<FuseStatfs>> StatfsAsync(
        FuseRequestContext context, ulong inode, CancellationToken cancellationToken)
    {
        Record($"statfs {inode}");
        return FuseResult<FuseStatfs>.Completed(new FuseStatfs
        {
            Blocks = 1,
            BlocksFree = 2,
            BlocksAvailable = 3,
            Files = 4,
            FilesFree = 5,
            BlockSize = 6,
            NameLength = 7,
            FragmentSize = 8,
        });
    }

    public override ValueTask<FuseResult<FuseEntry>> MakeNodeAsync(
        FuseRequestContext context, ulong parent, FuseName name, uint mode, uint device,
        CancellationToken cancellationToken) => EntryOf($"mknod {parent} {name} {mode} {device}");

    public override ValueTask<FuseResult<FuseEntry>> MakeDirectoryAsync(
        FuseRequestContext context, ulong parent, FuseName name, uint mode, CancellationToken cancellationToken) =>
        EntryOf($"mkdir {parent} {name} {mode}");

    public override ValueTask<FuseResult<FuseEntry>> MakeSymlinkAsync(
        FuseRequestContext context, ulong parent, FuseName name, FuseName target,
        CancellationToken cancellationToken) => EntryOf($"symlink {parent} {name} -> {target}");

    public override ValueTask<FuseResult<FuseEntry>> LinkAsync(
        FuseRequestContext context, ulong inode, ulong newParent, FuseName newName,
        CancellationToken cancellationToken) => EntryOf($"link {inode} {newParent} {newName}");

    public override ValueTask<int> UnlinkAsync(
        FuseRequestContext context, ulong parent, FuseName name, CancellationToken cancellationToken) =>
        Status($"unlink {parent} {name}");

    public override ValueTask<int> RemoveDirectoryAsync(
        FuseRequestContext context, ulong parent, FuseName name, CancellationToken cancellationToken) =>
        Status($"rmdir {parent} {name}");

    public override ValueTask<int> RenameAsync(
        FuseRequestContext context, ulong parent, FuseName name, ulong newParent, FuseName newName, uint flags,
        CancellationToken cancellationToken) => Status($"rename {parent} {name} {newParent} {newName} {flags}");

    public override ValueTask<FuseResult<FuseCreateReply>> CreateAsync(
        FuseRequestContext context, ulong parent, FuseName name, uint mode, int flags,
        CancellationToken cancellationToken) => CreateOf($"create {parent} {name} {mode} {flags}");

    public override ValueTask<FuseResult<FuseCreateReply>> CreateTemporaryAsync(
        FuseRequestContext context, ulong parent, uint mode, int flags, CancellationToken cancellationToken) =>
        CreateOf($"tmpfile {parent} {mode} {flags}");

    public override ValueTask<FuseResult<FuseOpenReply>> OpenAsync(
        FuseRequestContext context, ulong inode, int flags, CancellationToken cancellationToken) =>
        OpenOf($"open {inode} {flags}");

    public override ValueTask<int> ReadAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, Memory<byte> destination,
        CancellationToken cancellationToken)
    {
        Encoding.ASCII.GetBytes("0123456789")[..Math.Min(10, destination.Length)].CopyTo(destination);
        return Status($"read {inode} {handle} {offset} {destination.Length}", Math.Min(10, destination.Length));
    }

    public override ValueTask<int> WriteAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, ReadOnlyMemory<byte> data,
        FuseWriteInfo info, CancellationToken cancellationToken) =>
        Status(
            $"write {inode} {handle} {offset} {Encoding.ASCII.GetString(data.Span)} {(uint)info.Flags} "
            + $"{info.OpenFlags} {info.IsSynchronous}",
            data.Length);

    public override ValueTask<int> FlushAsync(
        FuseRequestContext context, ulong inode, ulong handle, CancellationToken cancellationToken) =>
        Status($"flush {inode} {handle}");

    public override ValueTask<int> ReleaseAsync(
        FuseRequestContext context, ulong inode, ulong handle, int flags, CancellationToken cancellationToken) =>
        Status($"release {inode} {handle} {flags}");

    public override ValueTask<int> FsyncAsync(
        FuseRequestContext context, ulong inode, ulong handle, bool dataOnly, CancellationToken cancellationToken) =>
        Status($"fsync {inode} {handle} {dataOnly}");

    public override ValueTask<int> FallocateAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, long length, int mode,
        CancellationToken cancellationToken) => Status($"fallocate {inode} {handle} {offset} {length} {mode}");

    public override ValueTask<long> SeekAsync(
        FuseRequestContext context, ulong inode, ulong handle, long offset, int whence,
        CancellationToken cancellationToken)
    {
        Record($"lseek {inode} {handle} {offset} {whence}");
        return new(Answers ?? 0x1_0000_0001);
    }

    public override ValueTask<long> CopyFileRangeAsync(
        FuseRequestContext context, ulong sourceInode, ulong sourceHandle, long sourceOffset,
        ulong targetInode, ulong targetHandle, long targetOffset, long length, uint flags,
        CancellationToken cancellationToken)
    {
        Record($"copy {sourceInode} {sourceHandle} {sourceOffset} {targetInode} {targetHandle} {targetOffset} "
            + $"{length} {flags}");
        return new(Answers ?? length);
    }

    public override ValueTask<FuseResult<FuseIoctlReply>> IoctlAsync(
        FuseRequestContext context, ulong inode, ulong handle, uint command, ulong argument, uint flags,
        ReadOnlyMemory<byte> input, Memory<byte> output, CancellationToken cancellationToken)
    {
        "OUT"u8.CopyTo(output.Span);
        // Read after the output was filled in: the two must not overlap.
        Record($"ioctl {inode} {handle} {command} {argument} {flags} {Encoding.ASCII.GetString(input.Span)} "
            + $"{output.Length}");
        return FuseResult<FuseIoctlReply>.Completed(new FuseIoctlReply(5, 3));
    }

    public override ValueTask<int> PollAsync(
        FuseRequestContext context, ulong inode, ulong handle, ulong pollHandle, uint flags, uint events,
        CancellationToken cancellationToken) => Status($"poll {inode} {handle} {pollHandle} {flags} {events}", 4);

    public override ValueTask<int> SyncFileSystemAsync(
        FuseRequestContext context, ulong inode, CancellationToken cancellationToken) => Status($"syncfs {inode}");

    public override ValueTask<FuseResult<FuseOpenReply>> OpenDirectoryAsync(
        FuseRequestContext context, ulong inode, int flags, CancellationToken cancellationToken) =>
        OpenOf($"opendir {inode} {flags}");

    public override ValueTask<int> ReadDirectoryAsync(
        FuseRequestContext context, ulong inode, ulong handle, ulong offset, FuseDirectoryWriter writer,
        CancellationToken cancellationToken)
    {
        bool first = writer.TryAdd("ab", 1, Entry);
        bool second = writer.TryAdd("longername"u8, 2, Entry with { Inode = 78, Attributes = default });
        return Status($"readdir {inode} {handle} {offset} {writer.IsPlus} {first} {second}");
    }

    public override ValueTask<int> ReleaseDirectoryAsync(
        FuseRequestContext context, ulong inode, ulong handle, int flags, CancellationToken cancellationToken) =>
        Status($"releasedir {inode} {handle} {flags}");

    public override ValueTask<int> FsyncDirectoryAsync(
        FuseRequestContext context, ulong inode, ulong handle, bool dataOnly, CancellationToken cancellationToken) =>
        Status($"fsyncdir {inode} {handle} {dataOnly}");

    public override ValueTask<int> GetXattrAsync(
        FuseRequestContext context, ulong inode, FuseName name, Memory<byte> destination,
        CancellationToken cancellationToken)
    {
        "value"u8[..Math.Min(5, destination.Length)].CopyTo(destination.Span);
        // The name is read after the value was filled in: the two must not overlap.
        return Status($"getxattr {inode} {name} {destination.Length}", 5);
    }

    public override ValueTask<int> ListXattrAsync(
        FuseRequestContext context, ulong inode, Memory<byte> destination, CancellationToken cancellationToken)
    {
        "user.a\0"u8[..Math.Min(7, destination.Length)].CopyTo(destination.Span);
        return Status($"listxattr {inode} {destination.Length}", 7);
    }

    public override ValueTask<int> SetXattrAsync(
        FuseRequestContext context, ulong inode, FuseName name, ReadOnlyMemory<byte> value, int flags,
        CancellationToken cancellationToken) =>
        Status($"setxattr {inode} {name} {Encoding.ASCII.GetString(value.Span)} {flags}");

    public override ValueTask<int> RemoveXattrAsync(
        FuseRequestContext context, ulong inode, FuseName name, CancellationToken cancellationToken) =>
        Status($"removexattr {inode} {name}");

    private void Record(string call)
    {
        Calls.Add(call);
        if (Throws is not null)
        {
            throw Throws;
        }
    }

    private ValueTask<int> Status(string call, int answer = 0)
    {
        Record(call);
        return new((int)(Answers ?? answer));
    }

    private ValueTask<FuseResult<FuseEntry>> EntryOf(string call)
    {
        Record(call);
        return FuseResult<FuseEntry>.Completed(Entry);
    }

    private ValueTask<FuseResult<FuseAttributes>> AttributesOf(string call)
    {
        Record(call);
        return FuseResult<FuseAttributes>.Completed(Attributes);
    }

    private ValueTask<FuseResult<FuseOpenReply>> OpenOf(string call)
    {
        Record(call);
        return FuseResult<FuseOpenReply>.Completed(
            new FuseOpenReply(99, FuseOpenFlags.DirectIo | FuseOpenFlags.Passthrough, 3));
    }

    private ValueTask<FuseResult<FuseCreateReply>> CreateOf(string call)
    {
        Record(call);
        return FuseResult<FuseCreateReply>.Completed(new FuseCreateReply(Entry, new FuseOpenReply(99)));
    }
}
