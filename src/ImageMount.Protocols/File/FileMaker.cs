using ImageMount.Interop;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Protocols.Files;

/// <summary>Makes and removes the host files of new images.</summary>
internal static class FileMaker
{
    private const uint Permissions = 0x1B6; // 0666; umask takes away what the user does not want

    /// <summary>Makes an empty file; false when there is one already, which is left as it is.</summary>
    public static bool TryCreate(string path)
    {
        using SafeFileHandle? handle = SysOpen.TryOpen(
            path, SysOpen.O_RDWR | SysOpen.O_CREAT | SysOpen.O_EXCL, out int errno, Permissions);
        return errno switch
        {
            0 => true,
            Errno.EEXIST => false,
            _ => throw HostErrors.Make(errno, "cannot make the file", path),
        };
    }

    /// <summary>Removes a file; one that is gone already is no error.</summary>
    public static void Delete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            int errno = e is UnauthorizedAccessException ? Errno.EACCES : Errno.EIO;
            throw HostErrors.Make(errno, "cannot remove the file", path);
        }
    }
}
