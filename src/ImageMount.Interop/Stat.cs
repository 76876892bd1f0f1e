using System.Runtime.InteropServices;
using System.Runtime.InteropServices.Marshalling;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>What <see cref="Stat"/> learns of a path (struct statx).</summary>
public readonly record struct StatInfo(
    uint Mode, uint Uid, ulong Inode, long Size, long Blocks, uint DeviceMajor, uint DeviceMinor)
{
    public bool IsFifo => (Mode & 0xF000) == 0x1000;
    public bool IsCharacterDevice => (Mode & 0xF000) == 0x2000;
    public bool IsDirectory => (Mode & 0xF000) == 0x4000;
    public bool IsBlockDevice => (Mode & 0xF000) == 0x6000;
    public bool IsSymbolicLink => (Mode & 0xF000) == 0xA000;
    public bool IsRegular => (Mode & 0xF000) == 0x8000;
    public bool IsSocket => (Mode & 0xF000) == 0xC000;

    /// <summary>Group of the file.</summary>
    public uint Gid { get; init; }

    /// <summary>What size of I/O the file system likes, bytes (stx_blksize).</summary>
    public uint BlockSize { get; init; }

    /// <summary>The device that a device node stands for.</summary>
    public uint TargetMajor { get; init; }

    /// <inheritdoc cref="TargetMajor"/>
    public uint TargetMinor { get; init; }

    /// <summary>True when the kernel says what O_DIRECT needs on this file (Linux 6.1, and not on every file system).
    /// </summary>
    public bool KnowsDirect { get; init; }

    /// <summary>Alignment of memory for O_DIRECT, bytes; 0: no direct I/O on this file.</summary>
    public uint DirectMemoryAlignment { get; init; }

    /// <summary>Alignment of offset and length for O_DIRECT, bytes; 0: no direct I/O on this file.</summary>
    public uint DirectOffsetAlignment { get; init; }

    /// <summary>When the contents were last written, nanoseconds since 1970.</summary>
    public long ModifiedNs { get; init; }

    /// <summary>When contents, name, owner or mode last changed, nanoseconds since 1970; nobody can set it.</summary>
    public long ChangedNs { get; init; }

    /// <summary>The mount that it was found on; 0 where the kernel does not say (before Linux 5.8).</summary>
    public ulong MountId { get; init; }

    /// <summary>True for what nobody may change, whatever the permissions (chattr +i).</summary>
    public bool IsImmutable { get; init; }

    /// <summary>True for what may only grow (chattr +a).</summary>
    public bool IsAppendOnly { get; init; }

    /// <summary>When the contents were last read, nanoseconds since 1970.</summary>
    public long AccessedNs { get; init; }

    /// <summary>When the file was made, nanoseconds since 1970; null where the file system does not know.</summary>
    public long? CreatedNs { get; init; }
}

/// <summary>stat(2) by way of statx(2), whose structure is the same on every architecture.</summary>
public static unsafe partial class Stat
{
    private const int AT_FDCWD = -100;
    private const int AT_SYMLINK_NOFOLLOW = 0x100;
    private const int AT_EMPTY_PATH = 0x1000;
    private const int AT_STATX_FORCE_SYNC = 0x2000;
    private const uint STATX_BASIC_STATS = 0x7FF;
    private const uint STATX_BTIME = 0x800;
    private const uint STATX_MNT_ID = 0x1000;
    private const uint STATX_DIOALIGN = 0x2000;
    private const ulong STATX_ATTR_IMMUTABLE = 0x10;
    private const ulong STATX_ATTR_APPEND = 0x20;
    private const int MaxName = 255;

    /// <summary>0 or -errno. Symlinks are followed unless <paramref name="noFollow"/>.</summary>
    public static int TryGet(string path, out StatInfo info, bool noFollow = false) =>
        TryGet(AT_FDCWD, path, noFollow ? AT_SYMLINK_NOFOLLOW : 0, out info);

    /// <summary>The same, but a remote or FUSE file system has to answer itself; what the kernel remembers does not count.
    /// </summary>
    public static int TryGetFresh(string path, out StatInfo info) =>
        TryGet(AT_FDCWD, path, AT_STATX_FORCE_SYNC, out info);

    /// <summary>fstat(2) of an open file: 0 or -errno.</summary>
    public static int TryGet(SafeFileHandle handle, out StatInfo info)
    {
        bool held = false;
        try
        {
            handle.DangerousAddRef(ref held);
            return TryGet((int)handle.DangerousGetHandle(), "", AT_EMPTY_PATH, out info);
        }
        finally
        {
            if (held)
            {
                handle.DangerousRelease();
            }
        }
    }

    /// <summary>
    /// What has a name in an open folder, a link itself and not what it points to: 0 or -errno. The name is bytes,
    /// because names on Linux need not be text.
    /// </summary>
    public static int TryGetAt(int directory, ReadOnlySpan<byte> name, out StatInfo info)
    {
        if (name.Length > MaxName)
        {
            info = default;
            return -Errno.ENAMETOOLONG;
        }

        // SAFETY: one byte more than the longest name, so that there is a NUL at the end.
        byte* path = stackalloc byte[MaxName + 1];
        name.CopyTo(new Span<byte>(path, MaxName));
        path[name.Length] = 0;
        return TryGet(directory, path, AT_SYMLINK_NOFOLLOW, out info);
    }

    private static int TryGet(int directory, string path, int flags, out StatInfo info)
    {
        byte* native = Utf8StringMarshaller.ConvertToUnmanaged(path);
        try
        {
            return TryGet(directory, native, flags, out info);
        }
        finally
        {
            Utf8StringMarshaller.Free(native);
        }
    }

    private static int TryGet(int directory, byte* path, int flags, out StatInfo info)
    {
        // SAFETY: struct statx has 256 bytes; its fields are read at the offsets of linux/stat.h.
        byte* raw = stackalloc byte[256];
        const uint Mask = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID | STATX_DIOALIGN;
        while (NativeStatx(directory, path, flags, Mask, raw) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
            {
                info = default;
                return -errno;
            }
        }
        info = new StatInfo(
            *(ushort*)(raw + 28), *(uint*)(raw + 20), *(ulong*)(raw + 32), *(long*)(raw + 40), *(long*)(raw + 48),
            *(uint*)(raw + 136), *(uint*)(raw + 140))
        {
            Gid = *(uint*)(raw + 24),
            BlockSize = *(uint*)(raw + 4),
            TargetMajor = *(uint*)(raw + 128),
            TargetMinor = *(uint*)(raw + 132),
            KnowsDirect = (*(uint*)raw & STATX_DIOALIGN) != 0,
            DirectMemoryAlignment = *(uint*)(raw + 152),
            DirectOffsetAlignment = *(uint*)(raw + 156),
            AccessedNs = ToNanoseconds(raw + 64),
            CreatedNs = (*(uint*)raw & STATX_BTIME) != 0 ? ToNanoseconds(raw + 80) : null,
            ModifiedNs = ToNanoseconds(raw + 112),
            ChangedNs = ToNanoseconds(raw + 96),
            MountId = (*(uint*)raw & STATX_MNT_ID) != 0 ? *(ulong*)(raw + 144) : 0,
            IsImmutable = (*(ulong*)(raw + 8) & STATX_ATTR_IMMUTABLE) != 0,
            IsAppendOnly = (*(ulong*)(raw + 8) & STATX_ATTR_APPEND) != 0,
        };
        return 0;
    }

    // struct statx_timestamp: seconds, and nanoseconds that are never negative. Beyond 1677 and 2262: the ends.
    private static long ToNanoseconds(byte* time) =>
        (long)Int128.Clamp((Int128)(*(long*)time) * 1_000_000_000 + *(uint*)(time + 8), long.MinValue, long.MaxValue);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true)]
    private static partial int NativeStatx(int directory, byte* path, int flags, uint mask, byte* result);
}
