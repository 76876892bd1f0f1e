using ImageMount.Fuse.Abi;
using ImageMount.Interop;

namespace ImageMount.Fuse.Protocol;

/// <summary>Operations on inodes as such. Every handler reads its body front to back, looks at the reader's error,
/// calls the file system, and hands the task to <see cref="FuseServer.Finish"/>.</summary>
internal static class NodeHandlers
{
    private static readonly Action<FuseServer, FuseRequest, FuseResult<FuseAttributes>> s_attributes = ReplyAttributes;
    private static readonly Action<FuseServer, FuseRequest, FuseResult<FuseStatfs>> s_statfs = ReplyStatfs;
    private static readonly Action<FuseServer, FuseRequest, FuseResult<FuseStatx>> s_statx = ReplyStatx;
    private static readonly Action<FuseServer, FuseRequest, int> s_link = ReplyLink;

    public static readonly Action<FuseServer, FuseRequest, FuseResult<FuseEntry>> ReplyEntryAction = ReplyEntry;
    public static readonly Action<FuseServer, FuseRequest, int> ReplyStatusAction =
        static (server, request, status) => server.ReplyStatus(request, status);

    public static bool Lookup(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        FuseName name = body.Name();
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request, server.FileSystem.LookupAsync(request.Context, request.NodeId, name, request.Token),
                ReplyEntryAction);
    }

    public static bool Forget(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        server.FileSystem.Forget(request.NodeId, body.U64());
        return true;
    }

    // fuse_batch_forget_in: count, dummy; then count times fuse_forget_one: nodeid, nlookup
    public static bool BatchForget(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        uint count = body.U32();
        body.Skip(4);
        for (uint i = 0; i < count && body.Remaining >= 16; i++)
        {
            ulong inode = body.U64();
            server.FileSystem.Forget(inode, body.U64());
        }
        return true;
    }

    // fuse_getattr_in: getattr_flags, dummy, fh
    public static bool GetAttributes(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        bool hasHandle = (body.U32() & FuseConstants.FUSE_GETATTR_FH) != 0;
        body.Skip(4);
        ulong handle = body.U64();
        return server.Finish(
            request,
            server.FileSystem.GetAttributesAsync(
                request.Context, request.NodeId, hasHandle ? handle : null, request.Token),
            s_attributes);
    }

    // fuse_setattr_in: valid, padding, fh, size, lock_owner, atime, mtime, ctime, their nanoseconds, mode, unused, uid,
    // gid, unused
    public static bool SetAttributes(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        var mask = (FuseSetAttributesMask)body.U32();
        body.Skip(4);
        ulong handle = body.U64();
        ulong size = body.U64();
        body.Skip(8);
        ulong atime = body.U64();
        ulong mtime = body.U64();
        ulong ctime = body.U64();
        uint atimeNs = body.U32();
        uint mtimeNs = body.U32();
        uint ctimeNs = body.U32();
        uint mode = body.U32();
        body.Skip(4);
        uint uid = body.U32();
        uint gid = body.U32();
        if ((mask & FuseSetAttributesMask.Size) != 0 && size > long.MaxValue)
        {
            return server.ReplyError(request, Errno.EINVAL);
        }
        var change = new FuseSetAttributes
        {
            Mask = mask,
            Handle = handle,
            Size = (long)Math.Min(size, long.MaxValue),
            Mode = mode,
            Uid = uid,
            Gid = gid,
            AccessTime = new FuseTimestamp((long)atime, atimeNs),
            ModifyTime = new FuseTimestamp((long)mtime, mtimeNs),
            ChangeTime = new FuseTimestamp((long)ctime, ctimeNs),
        };
        return server.Finish(
            request, server.FileSystem.SetAttributesAsync(request.Context, request.NodeId, change, request.Token),
            s_attributes);
    }

    // fuse_statx_in: getattr_flags, reserved, fh, sx_flags, sx_mask
    public static bool Statx(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        bool hasHandle = (body.U32() & FuseConstants.FUSE_GETATTR_FH) != 0;
        body.Skip(4);
        ulong handle = body.U64();
        uint flags = body.U32();
        uint mask = body.U32();
        return server.Finish(
            request,
            server.FileSystem.StatxAsync(
                request.Context, request.NodeId, hasHandle ? handle : null, flags, mask, request.Token),
            s_statx);
    }

    // fuse_access_in: mask, padding
    public static bool Access(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        server.Finish(
            request,
            server.FileSystem.AccessAsync(request.Context, request.NodeId, body.U32(), request.Token),
            ReplyStatusAction);

    public static bool ReadLink(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        request.Expected = FuseConstants.SymlinkMax;
        return server.Finish(
            request,
            server.FileSystem.ReadLinkAsync(
                request.Context, request.NodeId, request.Destination(FuseConstants.SymlinkMax), request.Token),
            s_link);
    }

    public static bool Statfs(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        server.Finish(
            request, server.FileSystem.StatfsAsync(request.Context, request.NodeId, request.Token), s_statfs);

    public static bool SyncFileSystem(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        server.Finish(
            request, server.FileSystem.SyncFileSystemAsync(request.Context, request.NodeId, request.Token),
            ReplyStatusAction);

    private static void ReplyEntry(FuseServer server, FuseRequest request, FuseResult<FuseEntry> result)
    {
        if (!result.IsSuccess)
        {
            server.ReplyError(request, result.Errno);
            return;
        }
        WireWriter.Entry(request.ReplyPayload(WireSize.EntryOut), result.Value);
        server.Reply(request, WireSize.EntryOut);
    }

    private static void ReplyAttributes(FuseServer server, FuseRequest request, FuseResult<FuseAttributes> result)
    {
        if (!result.IsSuccess)
        {
            server.ReplyError(request, result.Errno);
            return;
        }
        WireWriter.AttrOut(request.ReplyPayload(WireSize.AttrOut), result.Value, request.NodeId);
        server.Reply(request, WireSize.AttrOut);
    }

    private static void ReplyStatfs(FuseServer server, FuseRequest request, FuseResult<FuseStatfs> result)
    {
        if (!result.IsSuccess)
        {
            server.ReplyError(request, result.Errno);
            return;
        }
        WireWriter.Statfs(request.ReplyPayload(WireSize.StatfsOut), result.Value);
        server.Reply(request, WireSize.StatfsOut);
    }

    private static void ReplyStatx(FuseServer server, FuseRequest request, FuseResult<FuseStatx> result)
    {
        if (!result.IsSuccess)
        {
            server.ReplyError(request, result.Errno);
            return;
        }
        WireWriter.StatxOut(request.ReplyPayload(WireSize.StatxOut), result.Value, request.NodeId);
        server.Reply(request, WireSize.StatxOut);
    }

    private static void ReplyLink(FuseServer server, FuseRequest request, int count)
    {
        if (count < 0)
        {
            server.ReplyStatus(request, count);
        }
        else if (count > request.Expected)
        {
            server.ReplyOverrun(request, count);
        }
        else
        {
            server.Reply(request, count);
        }
    }
}
