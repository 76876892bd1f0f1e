using ImageMount.Fuse.Abi;

namespace ImageMount.Fuse.Protocol;

/// <summary>Messages to the kernel that answer nothing: a reply header with unique 0 and the notification's code where
/// the error would be.</summary>
internal static class FuseNotification
{
    // fuse_notify_inval_inode_out: ino, off, len
    public static byte[] InvalidateInode(ulong inode, long offset, long length)
    {
        byte[] message = Make(FuseConstants.FUSE_NOTIFY_INVAL_INODE, 24);
        Span<byte> body = message.AsSpan(WireSize.OutHeader);
        WireWriter.U64(body, 0, inode);
        WireWriter.U64(body, 8, (ulong)offset);
        WireWriter.U64(body, 16, (ulong)length);
        return message;
    }

    // fuse_notify_inval_entry_out: parent, namelen, flags; name, NUL
    public static byte[] InvalidateEntry(ulong parent, ReadOnlySpan<byte> name)
    {
        byte[] message = Make(FuseConstants.FUSE_NOTIFY_INVAL_ENTRY, 16 + name.Length + 1);
        Span<byte> body = message.AsSpan(WireSize.OutHeader);
        WireWriter.U64(body, 0, parent);
        WireWriter.U32(body, 8, (uint)name.Length);
        name.CopyTo(body[16..]);
        return message;
    }

    // fuse_notify_store_out: nodeid, offset, size, padding; data
    public static byte[] Store(ulong inode, long offset, ReadOnlySpan<byte> data)
    {
        byte[] message = Make(FuseConstants.FUSE_NOTIFY_STORE, 24 + data.Length);
        Span<byte> body = message.AsSpan(WireSize.OutHeader);
        WireWriter.U64(body, 0, inode);
        WireWriter.U64(body, 8, (ulong)offset);
        WireWriter.U32(body, 16, (uint)data.Length);
        data.CopyTo(body[24..]);
        return message;
    }

    // fuse_notify_delete_out: parent, child, namelen, padding; name, NUL
    public static byte[] Delete(ulong parent, ulong child, ReadOnlySpan<byte> name)
    {
        byte[] message = Make(FuseConstants.FUSE_NOTIFY_DELETE, 24 + name.Length + 1);
        Span<byte> body = message.AsSpan(WireSize.OutHeader);
        WireWriter.U64(body, 0, parent);
        WireWriter.U64(body, 8, child);
        WireWriter.U32(body, 16, (uint)name.Length);
        name.CopyTo(body[24..]);
        return message;
    }

    private static byte[] Make(int code, int bodyLength)
    {
        var message = new byte[WireSize.OutHeader + bodyLength];
        WireWriter.OutHeader(message, message.Length, code, 0);
        return message;
    }
}
