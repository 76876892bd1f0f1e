using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>libgfapi itself.</summary>
public sealed class Gfapi : IGfapi
{
    /// <summary>The one instance.</summary>
    public static Gfapi Instance { get; } = new();

    /// <inheritdoc/>
    public int TryConnect(GfapiTarget target, out IGfapiVolume? volume)
    {
        volume = null;
        nint fs = GfapiLibrary.glfs_new(target.Volume);
        if (fs == 0)
        {
            return -Marshal.GetLastPInvokeError();
        }

        int result = Check(GfapiLibrary.glfs_set_logging(fs, target.LogFile, target.LogLevel));
        foreach (GfapiServer server in target.Servers)
        {
            result = result != 0 ? result : Check(
                GfapiLibrary.glfs_set_volfile_server(fs, server.Transport, server.Host, server.Port));
        }

        // A write is acknowledged by the bricks, not by a cache in this process that may lose it. And a file that has a
        // lock is not opened again behind our back after a connection was lost, when the brick may have forgotten writes.
        foreach ((string translator, string key, string value) in Settings)
        {
            result = result != 0 ? result : Check(GfapiLibrary.glfs_set_xlator_option(fs, translator, key, value));
        }

        result = result != 0 ? result : Check(GfapiLibrary.glfs_init(fs));
        if (result != 0)
        {
            // It may take a second, and its answer is of no use.
            new Thread(() => GfapiLibrary.glfs_fini(fs)) { IsBackground = true, Name = "gfapi end" }.Start();
            return result;
        }

        volume = new GfapiVolume(fs);
        return 0;
    }

    /// <summary>Options of the client's translators. Reading ahead and caching is done above, in larger steps.</summary>
    private static readonly (string Translator, string Key, string Value)[] Settings =
    [
        ("*-client-*", "strict-locks", "on"),
        ("*-write-behind", "pass-through", "true"),
        ("*-read-ahead", "pass-through", "true"),
        ("*-io-cache", "pass-through", "true"),
        ("*-quick-read", "pass-through", "true"),
        ("*-open-behind", "pass-through", "true"),
    ];

    /// <summary>0, or the errno of the call that has just failed.</summary>
    internal static int Check(long result)
    {
        int errno = Marshal.GetLastPInvokeError();
        return result >= 0 ? 0 : errno > 0 ? -errno : -Errno.EIO;
    }
}

/// <summary>A glfs_t.</summary>
internal sealed class GfapiVolume(nint fs) : IGfapiVolume
{
    private const uint Mode = 0x180; // rw for the owner

    /// <inheritdoc/>
    public int TryOpen(string path, bool writable, out IGfapiFile? file)
    {
        file = null;
        nint fd = GfapiLibrary.glfs_open(fs, path, writable ? SysOpen.O_RDWR : SysOpen.O_RDONLY);
        if (fd == 0)
        {
            return Gfapi.Check(-1);
        }

        var opened = new GfapiFile(fd);
        int result = opened.CheckRegular();
        if (result != 0)
        {
            opened.Close();
            return result;
        }

        file = opened;
        return 0;
    }

    /// <inheritdoc/>
    public int TryCreate(string path)
    {
        nint fd = GfapiLibrary.glfs_creat(fs, path, SysOpen.O_RDWR | SysOpen.O_EXCL, Mode);
        if (fd == 0)
        {
            return Gfapi.Check(-1);
        }

        return Gfapi.Check(GfapiLibrary.glfs_close(fd));
    }

    /// <inheritdoc/>
    public int TryRemove(string path) => Gfapi.Check(GfapiLibrary.glfs_unlink(fs, path));

    /// <inheritdoc/>
    public void Finish() => GfapiLibrary.glfs_fini(fs);
}
