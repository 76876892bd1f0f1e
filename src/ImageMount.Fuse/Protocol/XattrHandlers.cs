using ImageMount.Fuse.Abi;
using ImageMount.Interop;

namespace ImageMount.Fuse.Protocol;

/// <summary>Extended attributes.</summary>
internal static class XattrHandlers
{
    private static readonly Action<FuseServer, FuseRequest, int> s_value = ReplyValue;

    // fuse_setxattr_in: size, flags, and with FUSE_SETXATTR_EXT setxattr_flags, padding; name; value
    public static bool Set(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        uint size = body.U32();
        int flags = (int)body.U32();
        if ((server.Info!.Flags & FuseConstants.FUSE_SETXATTR_EXT) != 0)
        {
            body.Skip(8);
        }
        FuseName name = body.Name();
        ReadOnlyMemory<byte> value = body.Bytes(size);
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request,
                server.FileSystem.SetXattrAsync(request.Context, request.NodeId, name, value, flags, request.Token),
                NodeHandlers.ReplyStatusAction);
    }

    // fuse_getxattr_in: size, padding; name
    public static bool Get(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        uint size = body.U32();
        body.Skip(4);
        FuseName name = body.Name();
        request.PlaceReplyAfterRequest(0); // the name must survive while the value is filled in
        if (body.Error != 0 || size > (uint)request.ReplyRoom)
        {
            return server.ReplyError(request, body.Error != 0 ? body.Error : Errno.E2BIG);
        }
        request.Expected = (int)size;
        return server.Finish(
            request,
            server.FileSystem.GetXattrAsync(
                request.Context, request.NodeId, name, request.Destination((int)size), request.Token),
            s_value);
    }

    // fuse_getxattr_in
    public static bool List(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        uint size = body.U32();
        if (size > (uint)request.ReplyRoom)
        {
            return server.ReplyError(request, Errno.E2BIG);
        }
        request.Expected = (int)size;
        return server.Finish(
            request,
            server.FileSystem.ListXattrAsync(
                request.Context, request.NodeId, request.Destination((int)size), request.Token),
            s_value);
    }

    public static bool Remove(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        FuseName name = body.Name();
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request, server.FileSystem.RemoveXattrAsync(request.Context, request.NodeId, name, request.Token),
                NodeHandlers.ReplyStatusAction);
    }

    // A size of 0 asks how large the value is: fuse_getxattr_out (size, padding). Otherwise the value itself.
    private static void ReplyValue(FuseServer server, FuseRequest request, int length)
    {
        if (length < 0)
        {
            server.ReplyStatus(request, length);
        }
        else if (request.Expected == 0)
        {
            Span<byte> payload = request.ReplyPayload(WireSize.GetxattrOut);
            WireWriter.U32(payload, 0, (uint)length);
            WireWriter.U32(payload, 4, 0);
            server.Reply(request, WireSize.GetxattrOut);
        }
        else if (length > request.Expected)
        {
            server.ReplyError(request, Errno.ERANGE);
        }
        else
        {
            server.Reply(request, length);
        }
    }
}
