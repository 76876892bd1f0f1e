using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Interop;

/// <summary>openat(2) with a name of bytes in an open folder, because names on Linux need not be text.</summary>
public static unsafe partial class SysOpenAt
{
    private const int MaxName = 255;

    /// <summary>
    /// The descriptor (O_CLOEXEC is added), or null and a positive errno. EINTR is retried. The name is one part of a
    /// path: with a slash in it, or being "..", it is refused (EINVAL), so that the result lies in the folder; add
    /// O_NOFOLLOW unless a link may lead out of it.
    /// </summary>
    /// <param name="directory">Open folder.</param>
    /// <param name="name">1…255 bytes.</param>
    /// <param name="flags">O_… flags.</param>
    /// <param name="errno">0, or a positive errno.</param>
    /// <param name="mode">Permissions of a file that O_CREAT makes, before umask.</param>
    public static SafeFileHandle? TryOpen(
        SafeFileHandle directory, ReadOnlySpan<byte> name, int flags, out int errno, uint mode = 0)
    {
        if (name.IsEmpty || name.ContainsAny((byte)'/', (byte)0) || name.SequenceEqual(".."u8))
        {
            errno = Errno.EINVAL;
            return null;
        }

        if (name.Length > MaxName)
        {
            errno = Errno.ENAMETOOLONG;
            return null;
        }

        // SAFETY: one byte more than the longest name, so that there is a NUL at the end.
        byte* path = stackalloc byte[MaxName + 1];
        name.CopyTo(new Span<byte>(path, MaxName));
        path[name.Length] = 0;
        while (true)
        {
            int fd = NativeOpenAt(directory, path, flags | SysOpen.O_CLOEXEC, mode);
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

    // Variadic like open(2); see SysOpen.
    [LibraryImport("libc", EntryPoint = "openat", SetLastError = true)]
    private static partial int NativeOpenAt(SafeFileHandle directory, byte* path, int flags, uint mode);
}
