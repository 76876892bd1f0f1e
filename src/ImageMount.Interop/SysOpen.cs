using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>open(2) for what File.OpenHandle does not fit (devices, O_PATH, O_DIRECT).</summary>
public static partial class SysOpen
{
    public const int O_RDONLY = 0;
    public const int O_RDWR = 2;
    public const int O_CREAT = 0x40;
    public const int O_EXCL = 0x80;
    public const int O_NONBLOCK = 0x800;
    public const int O_NOATIME = 0x40000;
    public const int O_CLOEXEC = 0x80000;
    public const int O_PATH = 0x200000;

    /// <summary>Bypass the page cache. One of the few flags that differ between architectures (asm/fcntl.h).</summary>
    public static int O_DIRECT { get; } =
        RuntimeInformation.ProcessArchitecture is Architecture.Arm64 or Architecture.Arm ? 0x10000 : 0x4000;

    /// <summary>Fail unless it is a folder; another flag that differs.</summary>
    public static int O_DIRECTORY { get; } =
        RuntimeInformation.ProcessArchitecture is Architecture.Arm64 or Architecture.Arm ? 0x4000 : 0x10000;

    /// <summary>Fail when the last part of the path is a symbolic link; another flag that differs.</summary>
    public static int O_NOFOLLOW { get; } =
        RuntimeInformation.ProcessArchitecture is Architecture.Arm64 or Architecture.Arm ? 0x8000 : 0x20000;

    /// <summary>The descriptor (O_CLOEXEC is added), or null and a positive errno. EINTR is retried.</summary>
    /// <param name="path">Path.</param>
    /// <param name="flags">O_… flags.</param>
    /// <param name="errno">0, or a positive errno.</param>
    /// <param name="mode">Permissions of a file that O_CREAT makes, before umask.</param>
    public static SafeFileHandle? TryOpen(string path, int flags, out int errno, uint mode = 0)
    {
        while (true)
        {
            int fd = NativeOpen(path, flags | O_CLOEXEC, mode);
            if (fd >= 0)
            {
                errno = 0;
                return new SafeFileHandle(fd, ownsHandle: true);
            }
            errno = Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
            {
                return null;
            }
        }
    }

    // open(2) is variadic; on x86-64 and on Linux arm64 a third integer argument is passed alike either way.
    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int NativeOpen(string path, int flags, uint mode);
}
