using ImageMount.Fuse.Abi;

namespace ImageMount.Fuse.Protocol;

/// <summary>Operations that change the tree of names.</summary>
internal static class TreeHandlers
{
    private static readonly Action<FuseServer, FuseRequest, FuseResult<FuseCreateReply>> s_create = ReplyCreate;

    // fuse_mknod_in: mode, rdev, umask, padding; name
    public static bool MakeNode(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        uint mode = body.U32();
        uint device = body.U32();
        body.Skip(8);
        FuseName name = body.Name();
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request,
                server.FileSystem.MakeNodeAsync(
                    request.Context, request.NodeId, name, mode, device, request.Token),
                NodeHandlers.ReplyEntryAction);
    }

    // fuse_mkdir_in: mode, umask; name
    public static bool MakeDirectory(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        uint mode = body.U32();
        body.Skip(4);
        FuseName name = body.Name();
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request,
                server.FileSystem.MakeDirectoryAsync(request.Context, request.NodeId, name, mode, request.Token),
                NodeHandlers.ReplyEntryAction);
    }

    // name; target
    public static bool MakeSymlink(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        FuseName name = body.Name();
        FuseName target = body.Text(FuseConstants.SymlinkMax);
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request,
                server.FileSystem.MakeSymlinkAsync(request.Context, request.NodeId, name, target, request.Token),
                NodeHandlers.ReplyEntryAction);
    }

    // fuse_link_in: oldnodeid; new name (the header's inode is the new parent)
    public static bool Link(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong inode = body.U64();
        FuseName name = body.Name();
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request,
                server.FileSystem.LinkAsync(request.Context, inode, request.NodeId, name, request.Token),
                NodeHandlers.ReplyEntryAction);
    }

    public static bool Unlink(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        FuseName name = body.Name();
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request, server.FileSystem.UnlinkAsync(request.Context, request.NodeId, name, request.Token),
                NodeHandlers.ReplyStatusAction);
    }

    public static bool RemoveDirectory(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        FuseName name = body.Name();
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request, server.FileSystem.RemoveDirectoryAsync(request.Context, request.NodeId, name, request.Token),
                NodeHandlers.ReplyStatusAction);
    }

    // fuse_rename_in: newdir; old name; new name
    public static bool Rename(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong newParent = body.U64();
        return RenameCommon(server, request, ref body, newParent, 0);
    }

    // fuse_rename2_in: newdir, flags, padding; old name; new name
    public static bool Rename2(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong newParent = body.U64();
        uint flags = body.U32();
        body.Skip(4);
        return RenameCommon(server, request, ref body, newParent, flags);
    }

    // fuse_create_in: flags, mode, umask, open_flags; name
    public static bool Create(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        int flags = (int)body.U32();
        uint mode = body.U32();
        body.Skip(8);
        FuseName name = body.Name();
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request,
                server.FileSystem.CreateAsync(request.Context, request.NodeId, name, mode, flags, request.Token),
                s_create);
    }

    // fuse_create_in, then a name that means nothing
    public static bool CreateTemporary(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        int flags = (int)body.U32();
        uint mode = body.U32();
        return server.Finish(
            request,
            server.FileSystem.CreateTemporaryAsync(request.Context, request.NodeId, mode, flags, request.Token),
            s_create);
    }

    private static bool RenameCommon(
        FuseServer server, FuseRequest request, ref FuseBodyReader body, ulong newParent, uint flags)
    {
        FuseName name = body.Name();
        FuseName newName = body.Name();
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request,
                server.FileSystem.RenameAsync(
                    request.Context, request.NodeId, name, newParent, newName, flags, request.Token),
                NodeHandlers.ReplyStatusAction);
    }

    private static void ReplyCreate(FuseServer server, FuseRequest request, FuseResult<FuseCreateReply> result)
    {
        if (!result.IsSuccess)
        {
            server.ReplyError(request, result.Errno);
            return;
        }
        Span<byte> payload = request.ReplyPayload(WireSize.EntryOut + WireSize.OpenOut);
        WireWriter.Entry(payload, result.Value.Entry);
        WireWriter.OpenOut(payload[WireSize.EntryOut..], result.Value.Open);
        server.Reply(request, payload.Length);
    }
}
