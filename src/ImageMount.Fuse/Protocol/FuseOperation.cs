using ImageMount.Fuse.Abi;

namespace ImageMount.Fuse.Protocol;

/// <summary>Handles one kind of request. True when it was completed (answered) before returning; false when it
/// suspended and its completion will answer and recycle it.</summary>
internal delegate bool FuseHandler(FuseServer server, FuseRequest request, ref FuseBodyReader body);

/// <summary>What is special about an operation.</summary>
[Flags]
internal enum FuseOperationTraits
{
    None = 0,

    /// <summary>The kernel waits for no answer, and must get none.</summary>
    NoReply = 1,

    /// <summary>Is about other requests: is served at any time, is not itself in flight, cannot be interrupted, is not
    /// waited for by a drain.</summary>
    Control = 4,

    /// <summary>The body ends with a name (or two), each with its NUL.</summary>
    Name = 8,
    TwoNames = 16,

    /// <summary>The body ends with as many bytes as a field of it says.</summary>
    Data = 32,

    /// <summary>The reply is as long as there is data, up to what the request asks for.</summary>
    VariableReply = 64,
}

/// <summary>
/// The table: one row an opcode drives parsing (least body), dispatch (handler), replies (size) and tracing (name).
/// </summary>
/// <param name="Opcode">The kernel's number.</param>
/// <param name="Name">Its name without FUSE_.</param>
/// <param name="MinimumBody">Bytes of the fixed structure after the header; shorter requests are answered
/// EINVAL.</param>
/// <param name="ReplySize">Bytes of the answer after the header on success; at most this much with VariableReply, where
/// 0 means "as asked for".</param>
/// <param name="Traits">See there.</param>
/// <param name="Handler">Does it.</param>
internal sealed record FuseOperation(
    FuseOpcode Opcode, string Name, int MinimumBody, int ReplySize, FuseOperationTraits Traits, FuseHandler Handler)
{
    private const FuseOperationTraits Plain = FuseOperationTraits.None;

    private static readonly FuseOperation?[] s_byNumber = Index();

    /// <summary>All rows, in the order of their numbers.</summary>
    public static IReadOnlyList<FuseOperation> All { get; } = [.. s_byNumber.OfType<FuseOperation>()];

    /// <summary>The row of an opcode, or null.</summary>
    public static FuseOperation? Find(FuseOpcode opcode) =>
        (uint)opcode < (uint)s_byNumber.Length ? s_byNumber[(uint)opcode] : null;

    private static FuseOperation[] Rows() =>
    [
        new(FuseOpcode.FUSE_LOOKUP, "LOOKUP", 0, WireSize.EntryOut, FuseOperationTraits.Name, NodeHandlers.Lookup),
        new(FuseOpcode.FUSE_FORGET, "FORGET", 8, 0, FuseOperationTraits.NoReply | FuseOperationTraits.Control,
            NodeHandlers.Forget),
        new(FuseOpcode.FUSE_GETATTR, "GETATTR", 16, WireSize.AttrOut, Plain, NodeHandlers.GetAttributes),
        new(FuseOpcode.FUSE_SETATTR, "SETATTR", 88, WireSize.AttrOut, Plain, NodeHandlers.SetAttributes),
        new(FuseOpcode.FUSE_READLINK, "READLINK", 0, FuseConstants.SymlinkMax, FuseOperationTraits.VariableReply,
            NodeHandlers.ReadLink),
        new(FuseOpcode.FUSE_SYMLINK, "SYMLINK", 0, WireSize.EntryOut, FuseOperationTraits.TwoNames,
            TreeHandlers.MakeSymlink),
        new(FuseOpcode.FUSE_MKNOD, "MKNOD", 16, WireSize.EntryOut, FuseOperationTraits.Name, TreeHandlers.MakeNode),
        new(FuseOpcode.FUSE_MKDIR, "MKDIR", 8, WireSize.EntryOut, FuseOperationTraits.Name, TreeHandlers.MakeDirectory),
        new(FuseOpcode.FUSE_UNLINK, "UNLINK", 0, 0, FuseOperationTraits.Name, TreeHandlers.Unlink),
        new(FuseOpcode.FUSE_RMDIR, "RMDIR", 0, 0, FuseOperationTraits.Name, TreeHandlers.RemoveDirectory),
        new(FuseOpcode.FUSE_RENAME, "RENAME", 8, 0, FuseOperationTraits.TwoNames, TreeHandlers.Rename),
        new(FuseOpcode.FUSE_LINK, "LINK", 8, WireSize.EntryOut, FuseOperationTraits.Name, TreeHandlers.Link),
        new(FuseOpcode.FUSE_OPEN, "OPEN", 8, WireSize.OpenOut, Plain, FileHandlers.Open),
        new(FuseOpcode.FUSE_READ, "READ", 40, 0, FuseOperationTraits.VariableReply, FileHandlers.Read),
        new(FuseOpcode.FUSE_WRITE, "WRITE", 40, WireSize.WriteOut, FuseOperationTraits.Data, FileHandlers.Write),
        new(FuseOpcode.FUSE_STATFS, "STATFS", 0, WireSize.StatfsOut, Plain, NodeHandlers.Statfs),
        new(FuseOpcode.FUSE_RELEASE, "RELEASE", 24, 0, Plain, FileHandlers.Release),
        new(FuseOpcode.FUSE_FSYNC, "FSYNC", 16, 0, Plain, FileHandlers.Fsync),
        new(FuseOpcode.FUSE_SETXATTR, "SETXATTR", 8, 0, FuseOperationTraits.Name | FuseOperationTraits.Data,
            XattrHandlers.Set),
        new(FuseOpcode.FUSE_GETXATTR, "GETXATTR", 8, 0, FuseOperationTraits.Name | FuseOperationTraits.VariableReply,
            XattrHandlers.Get),
        new(FuseOpcode.FUSE_LISTXATTR, "LISTXATTR", 8, 0, FuseOperationTraits.VariableReply, XattrHandlers.List),
        new(FuseOpcode.FUSE_REMOVEXATTR, "REMOVEXATTR", 0, 0, FuseOperationTraits.Name, XattrHandlers.Remove),
        new(FuseOpcode.FUSE_FLUSH, "FLUSH", 24, 0, Plain, FileHandlers.Flush),
        new(FuseOpcode.FUSE_INIT, "INIT", 8, WireSize.InitOut, Plain, SessionHandlers.Initialize),
        new(FuseOpcode.FUSE_OPENDIR, "OPENDIR", 8, WireSize.OpenOut, Plain, DirectoryHandlers.Open),
        new(FuseOpcode.FUSE_READDIR, "READDIR", 40, 0, FuseOperationTraits.VariableReply, DirectoryHandlers.Read),
        new(FuseOpcode.FUSE_RELEASEDIR, "RELEASEDIR", 24, 0, Plain, DirectoryHandlers.Release),
        new(FuseOpcode.FUSE_FSYNCDIR, "FSYNCDIR", 16, 0, Plain, DirectoryHandlers.Fsync),
        // Remote locks, block maps and DAX mappings were not asked for in INIT; ENOSYS makes the kernel do by itself.
        new(FuseOpcode.FUSE_GETLK, "GETLK", 48, 0, Plain, SessionHandlers.NotOffered),
        new(FuseOpcode.FUSE_SETLK, "SETLK", 48, 0, Plain, SessionHandlers.NotOffered),
        new(FuseOpcode.FUSE_SETLKW, "SETLKW", 48, 0, Plain, SessionHandlers.NotOffered),
        new(FuseOpcode.FUSE_ACCESS, "ACCESS", 8, 0, Plain, NodeHandlers.Access),
        new(FuseOpcode.FUSE_CREATE, "CREATE", 16, WireSize.EntryOut + WireSize.OpenOut, FuseOperationTraits.Name,
            TreeHandlers.Create),
        new(FuseOpcode.FUSE_INTERRUPT, "INTERRUPT", 8, 0,
            FuseOperationTraits.NoReply | FuseOperationTraits.Control, SessionHandlers.Interrupt),
        new(FuseOpcode.FUSE_BMAP, "BMAP", 16, 0, Plain, SessionHandlers.NotOffered),
        new(FuseOpcode.FUSE_DESTROY, "DESTROY", 0, 0, Plain, SessionHandlers.Destroy),
        new(FuseOpcode.FUSE_IOCTL, "IOCTL", 32, 0, FuseOperationTraits.Data | FuseOperationTraits.VariableReply,
            FileHandlers.Ioctl),
        new(FuseOpcode.FUSE_POLL, "POLL", 24, WireSize.PollOut, Plain, FileHandlers.Poll),
        new(FuseOpcode.FUSE_NOTIFY_REPLY, "NOTIFY_REPLY", 0, 0,
            FuseOperationTraits.NoReply | FuseOperationTraits.Control, SessionHandlers.Ignore),
        new(FuseOpcode.FUSE_BATCH_FORGET, "BATCH_FORGET", 8, 0,
            FuseOperationTraits.NoReply | FuseOperationTraits.Control | FuseOperationTraits.Data,
            NodeHandlers.BatchForget),
        new(FuseOpcode.FUSE_FALLOCATE, "FALLOCATE", 32, 0, Plain, FileHandlers.Fallocate),
        new(FuseOpcode.FUSE_READDIRPLUS, "READDIRPLUS", 40, 0, FuseOperationTraits.VariableReply,
            DirectoryHandlers.ReadPlus),
        new(FuseOpcode.FUSE_RENAME2, "RENAME2", 16, 0, FuseOperationTraits.TwoNames, TreeHandlers.Rename2),
        new(FuseOpcode.FUSE_LSEEK, "LSEEK", 24, WireSize.LseekOut, Plain, FileHandlers.Seek),
        new(FuseOpcode.FUSE_COPY_FILE_RANGE, "COPY_FILE_RANGE", 56, WireSize.WriteOut, Plain, FileHandlers.Copy),
        new(FuseOpcode.FUSE_SETUPMAPPING, "SETUPMAPPING", 40, 0, Plain, SessionHandlers.NotOffered),
        new(FuseOpcode.FUSE_REMOVEMAPPING, "REMOVEMAPPING", 4, 0, Plain, SessionHandlers.NotOffered),
        new(FuseOpcode.FUSE_SYNCFS, "SYNCFS", 8, 0, Plain, NodeHandlers.SyncFileSystem),
        new(FuseOpcode.FUSE_TMPFILE, "TMPFILE", 16, WireSize.EntryOut + WireSize.OpenOut, Plain,
            TreeHandlers.CreateTemporary),
        new(FuseOpcode.FUSE_STATX, "STATX", 24, WireSize.StatxOut, Plain, NodeHandlers.Statx),
        new(FuseOpcode.FUSE_COPY_FILE_RANGE_64, "COPY_FILE_RANGE_64", 56, WireSize.CopyFileRangeOut, Plain,
            FileHandlers.Copy64),
    ];

    private static FuseOperation?[] Index()
    {
        FuseOperation[] rows = Rows();
        var index = new FuseOperation?[(int)rows.Max(r => r.Opcode) + 1];
        foreach (FuseOperation row in rows)
        {
            index[(int)row.Opcode] = row;
        }
        return index;
    }
}
