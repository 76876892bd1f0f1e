using ImageMount.Fuse.Abi;
using ImageMount.Interop;

namespace ImageMount.Fuse.Protocol;

/// <summary>Operations on open files: the hot path.</summary>
internal static class FileHandlers
{
    private static readonly Action<FuseServer, FuseRequest, int> s_read = ReplyRead;
    private static readonly Action<FuseServer, FuseRequest, int> s_write = ReplyWrite;
    private static readonly Action<FuseServer, FuseRequest, int> s_poll = ReplyPoll;
    private static readonly Action<FuseServer, FuseRequest, long> s_seek = ReplySeek;
    private static readonly Action<FuseServer, FuseRequest, long> s_copied = ReplyCopied;
    private static readonly Action<FuseServer, FuseRequest, long> s_copied64 = ReplyCopied64;
    private static readonly Action<FuseServer, FuseRequest, FuseResult<FuseIoctlReply>> s_ioctl = ReplyIoctl;

    public static readonly Action<FuseServer, FuseRequest, FuseResult<FuseOpenReply>> ReplyOpenAction = ReplyOpen;

    // fuse_open_in: flags, open_flags
    public static bool Open(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        server.Finish(
            request,
            server.FileSystem.OpenAsync(request.Context, request.NodeId, (int)body.U32(), request.Token),
            ReplyOpenAction);

    // fuse_read_in: fh, offset, size, read_flags, lock_owner, flags, padding
    public static bool Read(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong handle = body.U64();
        long offset = body.Offset();
        uint size = body.U32();
        if (body.Error != 0 || size > (uint)server.Capacity || offset > long.MaxValue - size)
        {
            return server.ReplyError(request, Errno.EINVAL);
        }
        request.Expected = (int)size;
        return server.Finish(
            request,
            server.FileSystem.ReadAsync(
                request.Context, request.NodeId, handle, offset, request.Destination((int)size), request.Token),
            s_read);
    }

    // fuse_write_in: fh, offset, size, write_flags, lock_owner, flags, padding; data
    public static bool Write(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong handle = body.U64();
        long offset = body.Offset();
        uint size = body.U32();
        var writeFlags = (FuseWriteFlags)body.U32();
        body.Skip(8);
        int openFlags = (int)body.U32();
        body.Skip(4);
        ReadOnlyMemory<byte> data = body.Bytes(size);
        if (body.Error != 0 || offset > long.MaxValue - size)
        {
            return server.ReplyError(request, Errno.EINVAL);
        }
        request.Expected = (int)size;
        return server.Finish(
            request,
            server.FileSystem.WriteAsync(
                request.Context, request.NodeId, handle, offset, data, new FuseWriteInfo(writeFlags, openFlags),
                request.Token),
            s_write);
    }

    // fuse_flush_in: fh, unused, padding, lock_owner
    public static bool Flush(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        server.Finish(
            request,
            server.FileSystem.FlushAsync(request.Context, request.NodeId, body.U64(), request.Token),
            NodeHandlers.ReplyStatusAction);

    // fuse_release_in: fh, flags, release_flags, lock_owner
    public static bool Release(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong handle = body.U64();
        int flags = (int)body.U32();
        return server.Finish(
            request,
            server.FileSystem.ReleaseAsync(request.Context, request.NodeId, handle, flags, request.Token),
            NodeHandlers.ReplyStatusAction);
    }

    // fuse_fsync_in: fh, fsync_flags, padding
    public static bool Fsync(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong handle = body.U64();
        bool dataOnly = (body.U32() & FuseConstants.FUSE_FSYNC_FDATASYNC) != 0;
        return server.Finish(
            request,
            server.FileSystem.FsyncAsync(request.Context, request.NodeId, handle, dataOnly, request.Token),
            NodeHandlers.ReplyStatusAction);
    }

    // fuse_fallocate_in: fh, offset, length, mode, padding
    public static bool Fallocate(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong handle = body.U64();
        long offset = body.Offset();
        long length = body.Offset();
        int mode = (int)body.U32();
        if (body.Error != 0)
        {
            return server.ReplyError(request, body.Error);
        }
        if (offset > long.MaxValue - length)
        {
            return server.ReplyError(request, Errno.EFBIG);
        }
        return server.Finish(
            request,
            server.FileSystem.FallocateAsync(
                request.Context, request.NodeId, handle, offset, length, mode, request.Token),
            NodeHandlers.ReplyStatusAction);
    }

    // fuse_lseek_in: fh, offset, whence, padding
    public static bool Seek(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong handle = body.U64();
        long offset = body.Offset();
        int whence = (int)body.U32();
        return body.Error != 0
            ? server.ReplyError(request, body.Error)
            : server.Finish(
                request,
                server.FileSystem.SeekAsync(request.Context, request.NodeId, handle, offset, whence, request.Token),
                s_seek);
    }

    public static bool Copy(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        CopyCommon(server, request, ref body, uint.MaxValue & ~0xFFFu, s_copied);

    public static bool Copy64(FuseServer server, FuseRequest request, ref FuseBodyReader body) =>
        CopyCommon(server, request, ref body, long.MaxValue, s_copied64);

    // fuse_ioctl_in: fh, flags, cmd, arg, in_size, out_size; in_size bytes
    public static bool Ioctl(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong handle = body.U64();
        uint flags = body.U32();
        uint command = body.U32();
        ulong argument = body.U64();
        uint inputSize = body.U32();
        uint outputSize = body.U32();
        ReadOnlyMemory<byte> input = body.Bytes(inputSize);
        request.PlaceReplyAfterRequest(WireSize.IoctlOut);
        if (body.Error != 0 || outputSize > (uint)request.ReplyRoom - WireSize.IoctlOut)
        {
            return server.ReplyError(request, Errno.EINVAL);
        }
        request.Expected = (int)outputSize;
        Memory<byte> output = request.Destination(WireSize.IoctlOut + (int)outputSize)[WireSize.IoctlOut..];
        return server.Finish(
            request,
            server.FileSystem.IoctlAsync(
                request.Context, request.NodeId, handle, command, argument, flags, input, output, request.Token),
            s_ioctl);
    }

    // fuse_poll_in: fh, kh, flags, events
    public static bool Poll(FuseServer server, FuseRequest request, ref FuseBodyReader body)
    {
        ulong handle = body.U64();
        ulong pollHandle = body.U64();
        uint flags = body.U32();
        uint events = body.U32();
        return server.Finish(
            request,
            server.FileSystem.PollAsync(
                request.Context, request.NodeId, handle, pollHandle, flags, events, request.Token),
            s_poll);
    }

    // fuse_copy_file_range_in: fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
    private static bool CopyCommon(
        FuseServer server, FuseRequest request, ref FuseBodyReader body, long limit,
        Action<FuseServer, FuseRequest, long> complete)
    {
        ulong sourceHandle = body.U64();
        long sourceOffset = body.Offset();
        ulong targetInode = body.U64();
        ulong targetHandle = body.U64();
        long targetOffset = body.Offset();
        ulong length = body.U64();
        uint flags = (uint)body.U64();
        if (body.Error != 0)
        {
            return server.ReplyError(request, body.Error);
        }
        // The answer of the older form has 32 bits for the count; fewer bytes than asked for may always be copied.
        long count = (long)Math.Min(length, (ulong)limit);
        count = Math.Min(count, long.MaxValue - Math.Max(sourceOffset, targetOffset));
        return server.Finish(
            request,
            server.FileSystem.CopyFileRangeAsync(
                request.Context, request.NodeId, sourceHandle, sourceOffset, targetInode, targetHandle, targetOffset,
                count, flags, request.Token),
            complete);
    }

    private static void ReplyOpen(FuseServer server, FuseRequest request, FuseResult<FuseOpenReply> result)
    {
        if (!result.IsSuccess)
        {
            server.ReplyError(request, result.Errno);
            return;
        }
        WireWriter.OpenOut(request.ReplyPayload(WireSize.OpenOut), result.Value);
        server.Reply(request, WireSize.OpenOut);
    }

    private static void ReplyRead(FuseServer server, FuseRequest request, int count)
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
            request.Counters.Reads++;
            request.Counters.ReadBytes += count;
            server.Reply(request, count);
        }
    }

    private static void ReplyWrite(FuseServer server, FuseRequest request, int count)
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
            request.Counters.Writes++;
            request.Counters.WriteBytes += count;
            ReplyCount32(server, request, (uint)count);
        }
    }

    private static void ReplyPoll(FuseServer server, FuseRequest request, int events)
    {
        if (events < 0)
        {
            server.ReplyStatus(request, events);
            return;
        }
        ReplyCount32(server, request, (uint)events);
    }

    private static void ReplySeek(FuseServer server, FuseRequest request, long offset)
    {
        if (offset < 0)
        {
            server.ReplyStatus(request, offset);
            return;
        }
        WireWriter.U64(request.ReplyPayload(WireSize.LseekOut), 0, (ulong)offset);
        server.Reply(request, WireSize.LseekOut);
    }

    private static void ReplyCopied(FuseServer server, FuseRequest request, long count)
    {
        if (count < 0)
        {
            server.ReplyStatus(request, count);
            return;
        }
        ReplyCount32(server, request, (uint)count);
    }

    private static void ReplyCopied64(FuseServer server, FuseRequest request, long count)
    {
        if (count < 0)
        {
            server.ReplyStatus(request, count);
            return;
        }
        WireWriter.U64(request.ReplyPayload(WireSize.CopyFileRangeOut), 0, (ulong)count);
        server.Reply(request, WireSize.CopyFileRangeOut);
    }

    // fuse_ioctl_out: result, flags, in_iovs, out_iovs; data
    private static void ReplyIoctl(FuseServer server, FuseRequest request, FuseResult<FuseIoctlReply> result)
    {
        if (!result.IsSuccess)
        {
            server.ReplyError(request, result.Errno);
            return;
        }
        FuseIoctlReply reply = result.Value;
        if ((uint)reply.OutputLength > (uint)request.Expected)
        {
            server.ReplyOverrun(request, reply.OutputLength);
            return;
        }
        Span<byte> payload = request.ReplyPayload(WireSize.IoctlOut);
        payload.Clear();
        WireWriter.U32(payload, 0, (uint)reply.Result);
        server.Reply(request, WireSize.IoctlOut + reply.OutputLength);
    }

    // fuse_write_out and fuse_poll_out: a count, padding
    private static void ReplyCount32(FuseServer server, FuseRequest request, uint count)
    {
        Span<byte> payload = request.ReplyPayload(WireSize.WriteOut);
        WireWriter.U32(payload, 0, count);
        WireWriter.U32(payload, 4, 0);
        server.Reply(request, WireSize.WriteOut);
    }
}
