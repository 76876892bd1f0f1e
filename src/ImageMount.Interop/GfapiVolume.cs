using System.Runtime.InteropServices;

namespace ImageMount.Interop;

/// <summary>libgfapi itself.</summary>
public sealed class Gfapi : IGfapi
{
    /// <summary>The one instance.</summary>
    public static Gfapi Instance { get; } = new();

    /// <summary>Options of the client's translators. Reading ahead and caching is done above, in larger steps.</summary>
    private static readonly (string Translator, string Key, string Value)[] Settings =
    [
        // A write is acknowledged by the bricks, not by a cache in this process that may lose it.
        ("*-write-behind", "pass-through", "true"),
        ("*-read-ahead", "pass-through", "true"),
        ("*-io-cache", "pass-through", "true"),
        ("*-quick-read", "pass-through", "true"),
        ("*-open-behind", "pass-through", "true"),
    ];

    /// <summary>
    /// A file that has a lock is not opened again behind our back after a connection was lost, when the brick may have
    /// forgotten writes.
    /// </summary>
    private static readonly (string Translator, string Key, string Value) StrictLocks =
        ("*-client-*", "strict-locks", "on");

    /// <inheritdoc/>
    public int TryConnect(GfapiTarget target, out IGfapiVolume? volume)
    {
        int result = TryConnect(target, [.. Settings, StrictLocks], out GfapiVolume? connected);
        if (connected is { KeepsCopies: true })
        {
            // There a brick that comes back is brought up to date by the volume itself, and must be written again as soon
            // as it is there: a file that is not opened again on it would have one copy less.
            End(connected.Finish);
            result = TryConnect(target, Settings, out connected);
        }

        volume = connected;
        return result;
    }

    private static int TryConnect(
        GfapiTarget target, (string Translator, string Key, string Value)[] settings, out GfapiVolume? volume)
    {
        volume = null;
        nint fs = GfapiLibrary.glfs_new(target.Volume);
        if (fs == 0)
        {
            return Check(-1);
        }

        int result = Check(GfapiLibrary.glfs_set_logging(fs, target.LogFile, target.LogLevel));
        foreach (GfapiServer server in target.Servers)
        {
            result = result != 0 ? result : Check(
                GfapiLibrary.glfs_set_volfile_server(fs, server.Transport, server.Host, server.Port));
        }

        foreach ((string translator, string key, string value) in settings)
        {
            result = result != 0 ? result : Check(GfapiLibrary.glfs_set_xlator_option(fs, translator, key, value));
        }

        result = result != 0 ? result : Check(GfapiLibrary.glfs_init(fs));
        if (result != 0)
        {
            End(() => GfapiLibrary.glfs_fini(fs)); // It may take a second, and its answer is of no use.
            return result;
        }

        volume = new GfapiVolume(fs);
        return 0;
    }

    private static void End(Action finish) =>
        new Thread(() => finish()) { IsBackground = true, Name = "gfapi end" }.Start();

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

    /// <summary>Much more than a volume of a thousand bricks has, bytes.</summary>
    private const int MaxDescription = 1 << 20;

    /// <summary>True when every byte lies on several bricks.</summary>
    public bool KeepsCopies
    {
        get
        {
            // Exactly its length: with more room than that, the library reads beyond the end of its own memory.
            nint missing = GfapiLibrary.glfs_get_volfile(fs, [], 0);
            if (missing is >= 0 or < -MaxDescription)
            {
                return false;
            }

            var description = new byte[-missing];
            nint length = GfapiLibrary.glfs_get_volfile(fs, description, (nuint)description.Length);
            ReadOnlySpan<byte> text = length == description.Length ? description : [];
            return text.IndexOf("cluster/replicate"u8) >= 0 || text.IndexOf("cluster/disperse"u8) >= 0;
        }
    }

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
