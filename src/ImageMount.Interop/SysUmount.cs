using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>umount2(2).</summary>
public static partial class SysUmount
{
    /// <summary>MNT_FORCE: of a FUSE mount, cuts the connection, so that whoever waits gets an error; then unmounts if
    /// nobody uses it.</summary>
    public const int MNT_FORCE = 1;

    /// <summary>MNT_DETACH: gone from the tree now, from memory when nobody uses it any more.</summary>
    public const int MNT_DETACH = 2;

    /// <summary>UMOUNT_NOFOLLOW: a symlink is not followed.</summary>
    public const int UMOUNT_NOFOLLOW = 8;

    /// <summary>0 or -errno. EINTR is retried.</summary>
    public static int Unmount(string target, int flags)
    {
        while (true)
        {
            if (NativeUmount2(target, flags) == 0)
            {
                return 0;
            }
            int errno = Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
            {
                return -errno;
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "umount2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int NativeUmount2(string target, int flags);
}
