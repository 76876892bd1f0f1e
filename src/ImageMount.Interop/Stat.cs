using System.Runtime.InteropServices;
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
}

/// <summary>stat(2) by way of statx(2), whose structure is the same on every architecture.</summary>
public static unsafe partial class Stat
{
    private const int AT_FDCWD = -100;
    private const int AT_SYMLINK_NOFOLLOW = 0x100;
    private const int AT_EMPTY_PATH = 0x1000;
    private const int AT_STATX_FORCE_SYNC = 0x2000;
    private const uint STATX_BASIC_STATS = 0x7FF;
    private const uint STATX_DIOALIGN = 0x2000;

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

    private static int TryGet(int directory, string path, int flags, out StatInfo info)
    {
        // SAFETY: struct statx has 256 bytes; its fields are read at the offsets of linux/stat.h.
        byte* raw = stackalloc byte[256];
        while (NativeStatx(directory, path, flags, STATX_BASIC_STATS | STATX_DIOALIGN, raw) != 0)
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
        };
        return 0;
    }

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int NativeStatx(int directory, string path, int flags, uint mask, byte* result);
}
