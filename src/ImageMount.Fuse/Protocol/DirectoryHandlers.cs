using ImageMount.Fuse.Abi;
using ImageMount.Interop;

namespace ImageMount.Fuse.Protocol;

/// <summary>Operations on open directories.</summary>
internal static class DirectoryHandlers
{
    private static readonly Action<FuseServer, FuseRequest, int> s_listed = ReplyListed;

    public static bool Open(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        server.Finish(
            request,
            server.FileSystem.OpenDirectoryAsync(request.Context, request.NodeId, (int)body.U32(), request.Token),
            FileHandlers.ReplyOpenAction);

    public static bool Read(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        ReadCommon(server, request, ref body, plus: false);

    public static bool ReadPlus(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        ReadCommon(server, request, ref body, plus: true);

    public static bool Release(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong handle = body.U64();
        int flags = (int)body.U32();
        return server.Finish(
            request,
            server.FileSystem.ReleaseDirectoryAsync(request.Context, request.NodeId, handle, flags, request.Token),
            NodeHandlers.ReplyStatusAction);
    }

    public static bool Fsync(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong handle = body.U64();
        bool dataOnly = (body.U32() & FuseConstants.FUSE_FSYNC_FDATASYNC) != 0;
        return server.Finish(
            request,
            server.FileSystem.FsyncDirectoryAsync(request.Context, request.NodeId, handle, dataOnly, request.Token),
            NodeHandlers.ReplyStatusAction);
    }

    // fuse_read_in; the offset is whatever cookie the file system gave, all 64 bits of it.
    private static bool ReadCommon(FuseServer server, FuseRequest request, ref FuseBodyReader body, bool plus)
    {
        ulong handle = body.U64();
        ulong offset = body.U64();
        uint size = body.U32();
        if (size > (uint)server.Capacity)
        {
            return server.ReplyError(request, Errno.EINVAL);
        }
        FuseDirectoryWriter writer = request.Directory;
        writer.Reset(request.Destination((int)size), plus);
        return server.Finish(
            request,
            server.FileSystem.ReadDirectoryAsync(
                request.Context, request.NodeId, handle, offset, writer, request.Token),
            s_listed);
    }

    private static void ReplyListed(FuseServer server, FuseRequest request, int status)
    {
        if (status < 0)
        {
            server.ReplyStatus(request, status);
            return;
        }
        server.Reply(request, request.Directory.Length);
    }
}
