using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Protocols.Files;

/// <summary>Makes new image files.</summary>
public static class HostFile
{
    /// <summary>Makes a sparse file of <paramref name="length"/> zeroes; an error if there is one already.</summary>
    /// <param name="path">Path.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="mode">Permissions before umask.</param>
    public static void Create(string path, long length, uint mode = 0x1A4 /* 0644 */)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        using SafeFileHandle? handle =
            SysOpen.TryOpen(path, SysOpen.O_RDWR | SysOpen.O_CREAT | SysOpen.O_EXCL, out int errno, mode);
        if (handle is null)
        {
            throw HostErrors.Make(errno, "cannot create", path);
        }

        errno = -SysFtruncate.Truncate((int)handle.DangerousGetHandle(), length);
        if (errno != 0)
        {
            File.Delete(path); // Ours since O_EXCL.
            throw HostErrors.Make(errno, $"cannot make it {length} bytes long", path);
        }
    }
}
