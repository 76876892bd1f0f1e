using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>What <see cref="Stat"/> learns of a path (struct statx).</summary>
public readonly record struct StatInfo(
    uint Mode, uint Uid, ulong Inode, long Size, long Blocks, uint DeviceMajor, uint DeviceMinor)
{
    public bool IsDirectory => (Mode & 0xF000) == 0x4000;
    public bool IsRegular => (Mode & 0xF000) == 0x8000;
}

/// <summary>stat(2) by way of statx(2), whose structure is the same on every architecture.</summary>
public static unsafe partial class Stat
{
    private const int AT_FDCWD = -100;
    private const int AT_SYMLINK_NOFOLLOW = 0x100;
    private const uint STATX_BASIC_STATS = 0x7FF;

    /// <summary>0 or -errno. Symlinks are followed unless <paramref name="noFollow"/>.</summary>
    public static int TryGet(string path, out StatInfo info, bool noFollow = false)
    {
        // SAFETY: struct statx has 256 bytes; its fields are read at the offsets of linux/stat.h.
        byte* raw = stackalloc byte[256];
        while (NativeStatx(AT_FDCWD, path, noFollow ? AT_SYMLINK_NOFOLLOW : 0, STATX_BASIC_STATS, raw) != 0)
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
            *(uint*)(raw + 136), *(uint*)(raw + 140));
        return 0;
    }

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int NativeStatx(int directory, string path, int flags, uint mask, byte* result);
}
