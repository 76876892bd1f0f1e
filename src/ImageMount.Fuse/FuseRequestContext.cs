using System.Text;

namespace ImageMount.Fuse;

/// <summary>Who asks. Small, and passed by value, so that <c>async</c> methods can take it.</summary>
/// <param name="Unique">The kernel's number of the request; 0 where there is none.</param>
/// <param name="Uid">User id of the caller, in the mount's user namespace. Requests that the kernel makes on its own
/// account (write-back, read-ahead) carry 0.</param>
/// <param name="Gid">Group id of the caller.</param>
/// <param name="Pid">Thread id of the caller; 0 when the kernel itself asks.</param>
public readonly record struct FuseRequestContext(ulong Unique, uint Uid, uint Gid, uint Pid);

/// <summary>
/// A file name as the kernel gives it: bytes, no '/', no NUL, 1…255 of them (symlink targets: up to 4095). It points
/// into the request's buffer and is valid until the operation's task completes; <see cref="ToString"/> makes a copy.
/// </summary>
public readonly struct FuseName(ReadOnlyMemory<byte> bytes)
{
    public ReadOnlyMemory<byte> Bytes { get; } = bytes;

    public ReadOnlySpan<byte> Span => Bytes.Span;

    /// <summary>Bytewise comparison: <c>name.Is("disk.raw"u8)</c>.</summary>
    public bool Is(ReadOnlySpan<byte> utf8) => Bytes.Span.SequenceEqual(utf8);

    /// <summary>The name as UTF-8; bytes that are none become U+FFFD.</summary>
    public override string ToString() => Encoding.UTF8.GetString(Bytes.Span);
}

/// <summary>What a WRITE carries besides its data.</summary>
/// <param name="Flags">FUSE_WRITE_* bits.</param>
/// <param name="OpenFlags">O_* flags of the open file.</param>
public readonly record struct FuseWriteInfo(FuseWriteFlags Flags, int OpenFlags)
{
    private const int O_DSYNC = 0x1000;

    /// <summary>The file was opened with O_SYNC or O_DSYNC: the write must be durable when it is answered. (Writes that
    /// come from the page cache are followed by an FSYNC instead.)</summary>
    public bool IsSynchronous => (OpenFlags & O_DSYNC) != 0;
}

/// <summary>FUSE_WRITE_* of linux/fuse.h.</summary>
[Flags]
public enum FuseWriteFlags : uint
{
    None = 0,

    /// <summary>Delayed write from the page cache: uid, gid and pid are not those of the writer, and the handle is any
    /// one that is open for writing.</summary>
    Cache = 1 << 0,

    LockOwner = 1 << 1,

    /// <summary>Clear S_ISUID, and S_ISGID of group-executable files, as part of this write.</summary>
    KillSuidGid = 1 << 2,
}

/// <summary>Which fields of a <see cref="FuseSetAttributes"/> are to be set (FATTR_* of linux/fuse.h).</summary>
[Flags]
public enum FuseSetAttributesMask : uint
{
    None = 0,
    Mode = 1 << 0,
    Uid = 1 << 1,
    Gid = 1 << 2,
    Size = 1 << 3,
    AccessTime = 1 << 4,
    ModifyTime = 1 << 5,

    /// <summary><see cref="FuseSetAttributes.Handle"/> names the open file (ftruncate(2) and its like).</summary>
    Handle = 1 << 6,

    /// <summary>Use the present time instead of the one given.</summary>
    AccessTimeNow = 1 << 7,
    ModifyTimeNow = 1 << 8,
    LockOwner = 1 << 9,
    ChangeTime = 1 << 10,
    KillSuidGid = 1 << 11,
}

/// <summary>What SETATTR asks for: truncate(2), chmod(2), chown(2), utimensat(2), one or several at a time.</summary>
public readonly record struct FuseSetAttributes
{
    public FuseSetAttributesMask Mask { get; init; }
    public ulong Handle { get; init; }

    /// <summary>New size in bytes.</summary>
    public long Size { get; init; }

    /// <summary>New mode, file type included.</summary>
    public uint Mode { get; init; }

    public uint Uid { get; init; }
    public uint Gid { get; init; }
    public FuseTimestamp AccessTime { get; init; }
    public FuseTimestamp ModifyTime { get; init; }
    public FuseTimestamp ChangeTime { get; init; }

    /// <summary>True when <paramref name="flag"/> is in the mask.</summary>
    public bool Has(FuseSetAttributesMask flag) => (Mask & flag) != 0;
}
