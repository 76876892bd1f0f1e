using System.Buffers.Binary;

namespace ImageMount.Fuse.Abi;

/// <summary>
/// Puts answers into the kernel's layout, field by field at the offsets of linux/fuse.h. FUSE speaks the machine's own
/// byte order; every machine that .NET runs on under Linux and that we support is little-endian.
/// </summary>
internal static class WireWriter
{
    private const long NanosecondsPerTick = 100;

    /// <summary>fuse_out_header: len, error, unique.</summary>
    public static void OutHeader(Span<byte> to, int length, int error, ulong unique)
    {
        U32(to, 0, (uint)length);
        U32(to, 4, unchecked((uint)error));
        U64(to, 8, unique);
    }

    /// <summary>fuse_attr, 88 bytes.</summary>
    public static void Attr(Span<byte> to, in FuseAttributes a, ulong inode)
    {
        U64(to, 0, a.Inode != 0 ? a.Inode : inode);
        U64(to, 8, (ulong)a.Size);
        U64(to, 16, (ulong)a.Blocks);
        U64(to, 24, (ulong)a.AccessTime.Seconds);
        U64(to, 32, (ulong)a.ModifyTime.Seconds);
        U64(to, 40, (ulong)a.ChangeTime.Seconds);
        U32(to, 48, a.AccessTime.Nanoseconds);
        U32(to, 52, a.ModifyTime.Nanoseconds);
        U32(to, 56, a.ChangeTime.Nanoseconds);
        U32(to, 60, a.Mode);
        U32(to, 64, a.LinkCount);
        U32(to, 68, a.Uid);
        U32(to, 72, a.Gid);
        U32(to, 76, a.Device);
        U32(to, 80, a.BlockSize);
        U32(to, 84, 0); // flags
    }

    /// <summary>fuse_attr_out: attr_valid, attr_valid_nsec, dummy, attr.</summary>
    public static void AttrOut(Span<byte> to, in FuseAttributes a, ulong inode)
    {
        Validity(a.Validity, out ulong seconds, out uint nanoseconds);
        U64(to, 0, seconds);
        U32(to, 8, nanoseconds);
        U32(to, 12, 0);
        Attr(to[16..], a, inode);
    }

    /// <summary>fuse_entry_out: nodeid, generation, entry_valid, attr_valid, their nanoseconds, attr.</summary>
    public static void Entry(Span<byte> to, in FuseEntry e)
    {
        Validity(e.Validity, out ulong entrySeconds, out uint entryNanoseconds);
        Validity(e.Attributes.Validity, out ulong attrSeconds, out uint attrNanoseconds);
        U64(to, 0, e.Inode);
        U64(to, 8, e.Generation);
        U64(to, 16, entrySeconds);
        U64(to, 24, attrSeconds);
        U32(to, 32, entryNanoseconds);
        U32(to, 36, attrNanoseconds);
        Attr(to[40..], e.Attributes, e.Inode);
    }

    /// <summary>fuse_open_out: fh, open_flags, backing_id.</summary>
    public static void OpenOut(Span<byte> to, in FuseOpenReply o)
    {
        U64(to, 0, o.Handle);
        U32(to, 8, (uint)o.Flags);
        U32(to, 12, (uint)o.BackingId);
    }

    /// <summary>fuse_dirent without the name: ino, off, namelen, type.</summary>
    public static void Dirent(Span<byte> to, ulong inode, ulong nextOffset, int nameLength, uint mode)
    {
        U64(to, 0, inode);
        U64(to, 8, nextOffset);
        U32(to, 16, (uint)nameLength);
        U32(to, 20, (mode & FuseMode.S_IFMT) >> 12);
    }

    /// <summary>fuse_kstatfs: blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding, spare[6].</summary>
    public static void Statfs(Span<byte> to, in FuseStatfs s)
    {
        to[..WireSize.StatfsOut].Clear();
        U64(to, 0, s.Blocks);
        U64(to, 8, s.BlocksFree);
        U64(to, 16, s.BlocksAvailable);
        U64(to, 24, s.Files);
        U64(to, 32, s.FilesFree);
        U32(to, 40, s.BlockSize);
        U32(to, 44, s.NameLength);
        U32(to, 48, s.FragmentSize);
    }

    /// <summary>fuse_statx_out: attr_valid, attr_valid_nsec, flags, spare[2], then fuse_statx (256 bytes).</summary>
    public static void StatxOut(Span<byte> to, in FuseStatx x, ulong inode)
    {
        const uint STATX_BASIC_STATS = 0x7FF;
        const uint STATX_BTIME = 0x800;
        to[..WireSize.StatxOut].Clear();
        FuseAttributes a = x.Attributes;
        Validity(a.Validity, out ulong seconds, out uint nanoseconds);
        U64(to, 0, seconds);
        U32(to, 8, nanoseconds);
        Span<byte> s = to[32..];
        U32(s, 0, STATX_BASIC_STATS | (x.BirthTime is null ? 0 : STATX_BTIME));
        U32(s, 4, a.BlockSize);
        U32(s, 16, a.LinkCount);
        U32(s, 20, a.Uid);
        U32(s, 24, a.Gid);
        BinaryPrimitives.WriteUInt16LittleEndian(s[28..], (ushort)a.Mode);
        U64(s, 32, a.Inode != 0 ? a.Inode : inode);
        U64(s, 40, (ulong)a.Size);
        U64(s, 48, (ulong)a.Blocks);
        StatxTime(s[64..], a.AccessTime);
        StatxTime(s[80..], x.BirthTime ?? default);
        StatxTime(s[96..], a.ChangeTime);
        StatxTime(s[112..], a.ModifyTime);
        U32(s, 128, (a.Device >> 8) & 0xFFF);
        U32(s, 132, (a.Device & 0xFF) | ((a.Device >> 12) & 0xFFF00));
    }

    public static void U64(Span<byte> to, int at, ulong value) =>
        BinaryPrimitives.WriteUInt64LittleEndian(to[at..], value);

    public static void U32(Span<byte> to, int at, uint value) =>
        BinaryPrimitives.WriteUInt32LittleEndian(to[at..], value);

    public static void U16(Span<byte> to, int at, int value) =>
        BinaryPrimitives.WriteUInt16LittleEndian(to[at..], (ushort)value);

    private static void StatxTime(Span<byte> to, FuseTimestamp time)
    {
        U64(to, 0, (ulong)time.Seconds);
        U32(to, 8, time.Nanoseconds);
    }

    private static void Validity(TimeSpan time, out ulong seconds, out uint nanoseconds)
    {
        long ticks = Math.Max(time.Ticks, 0);
        seconds = (ulong)(ticks / TimeSpan.TicksPerSecond);
        nanoseconds = (uint)(ticks % TimeSpan.TicksPerSecond * NanosecondsPerTick);
    }
}
