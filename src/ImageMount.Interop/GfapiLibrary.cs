using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>
/// libgfapi, the client library of GlusterFS, loaded on demand. Names and numbers as in glusterfs/api/glfs.h.
/// </summary>
/// <remarks>
/// Functions of the library block, unless their name ends in _async; they fail with -1 or NULL and errno. Its memory is
/// its own: what it is given is copied during the call, but for the memory of asynchronous reads.
/// </remarks>
public static unsafe partial class GfapiLibrary
{
    /// <summary>What the dynamic loader is asked for.</summary>
    public const string FileName = "libgfapi.so.0";

    /// <summary>The Debian package that has it.</summary>
    public const string DebianPackage = "libgfapi0";

    private static readonly Lazy<bool> Loaded = new(Load);

    /// <summary>True when the library is installed, could be loaded, and is not older than GlusterFS 6.</summary>
    public static bool IsAvailable => Loaded.Value;

    private static bool Load()
    {
        if (!NativeLibrary.TryLoad(FileName, out nint library))
        {
            return false;
        }

        // Since this version of its interface the library calls back with five arguments, with three before.
        // dlvsym is in the C library itself since glibc 2.34, in a library of its own before.
        foreach (string name in (string[])["libc.so.6", "libdl.so.2"])
        {
            if (NativeLibrary.TryLoad(name, out nint loader) && NativeLibrary.TryGetExport(loader, "dlvsym", out nint find))
            {
                // SAFETY: dlvsym(3); the strings end in NUL and are used during the call only.
                fixed (byte* symbol = "glfs_pread_async"u8)
                fixed (byte* version = "GFAPI_6.0"u8)
                {
                    return ((delegate* unmanaged[Cdecl]<nint, byte*, byte*, nint>)find)(library, symbol, version) != 0;
                }
            }
        }

        return false;
    }

    // SAFETY: of all below: strings and structures are used during the call only; the memory of an asynchronous read and
    // the pointer that its callback gets are kept alive by GfapiRequest until the callback has come.
    [LibraryImport(FileName, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    internal static partial nint glfs_new(string volume);

    [LibraryImport(FileName, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    internal static partial int glfs_set_volfile_server(nint fs, string transport, string host, int port);

    [LibraryImport(FileName, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    internal static partial int glfs_set_logging(nint fs, string file, int level);

    [LibraryImport(FileName, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    internal static partial int glfs_set_xlator_option(nint fs, string translator, string key, string value);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_init(nint fs);

    /// <summary>Bytes of the volume's description; negative when there is less room than that.</summary>
    [LibraryImport(FileName, SetLastError = true)]
    internal static partial nint glfs_get_volfile(nint fs, [Out] byte[] buffer, nuint length);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_fini(nint fs);

    [LibraryImport(FileName, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    internal static partial nint glfs_open(nint fs, string path, int flags);

    [LibraryImport(FileName, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    internal static partial nint glfs_creat(nint fs, string path, int flags, uint mode);

    [LibraryImport(FileName, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    internal static partial int glfs_unlink(nint fs, string path);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_close(nint fd);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_fstat(nint fd, byte* stat);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial long glfs_lseek(nint fd, long offset, int whence);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_fd_set_lkowner(nint fd, byte* owner, int length);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_posix_lock(nint fd, int command, SysFileLock.Flock* record);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_pread_async(
        nint fd, byte* buffer, nuint count, long offset, int flags,
        delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, void> done, nint data);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_pwrite_async(
        nint fd, byte* buffer, int count, long offset, int flags,
        delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, void> done, nint data);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_fsync_async(nint fd,
        delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, void> done, nint data);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_ftruncate_async(nint fd, long length,
        delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, void> done, nint data);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_zerofill_async(nint fd, long offset, long length,
        delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, void> done, nint data);

    [LibraryImport(FileName, SetLastError = true)]
    internal static partial int glfs_discard_async(nint fd, long offset, nuint length,
        delegate* unmanaged[Cdecl]<nint, nint, nint, nint, nint, void> done, nint data);
}
