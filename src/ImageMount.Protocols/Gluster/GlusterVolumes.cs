using ImageMount.Core.Block;
using ImageMount.Interop;

namespace ImageMount.Protocols.Gluster;

/// <summary>
/// The connections to volumes of this process: one for each volume, shared by all its files. One that nobody uses is kept
/// for a while, then ended on a thread of its own, because that takes the library ten seconds; the end of the
/// program does not wait for it.
/// </summary>
/// <param name="library">The library.</param>
/// <param name="linger">How long a connection is kept without users.</param>
internal sealed class GlusterVolumes(IGfapi library, TimeSpan linger)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, GlusterVolume> _volumes = new(StringComparer.Ordinal);

    /// <summary>Those of the program.</summary>
    public static GlusterVolumes Shared { get; } = new(Gfapi.Instance, TimeSpan.FromSeconds(30));

    /// <summary>Connections that are there.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _volumes.Count;
            }
        }
    }

    /// <summary>The connection to a volume, with one more user; <see cref="Release"/> counts it out.</summary>
    /// <exception cref="BlockException">It cannot be reached.</exception>
    public async Task<GlusterVolume> AcquireAsync(GfapiTarget target, CancellationToken cancellationToken)
    {
        string key = string.Join('\n', target.Servers.Select(server => server.ToString()).Prepend(target.Volume));
        GlusterVolume? volume;
        lock (_lock)
        {
            if (!_volumes.TryGetValue(key, out volume) || volume.Connecting is { IsCompleted: true, Result.Errno: not 0 })
            {
                volume = new GlusterVolume(key, Connect(target));
                _volumes[key] = volume;
            }

            volume.Users++;
        }

        try
        {
            (int errno, _) = await volume.Connecting.WaitAsync(cancellationToken).ConfigureAwait(false);
            return errno == 0 ? volume : throw GlusterErrors.Connect(errno, target.Volume, GlusterUri.Peer(target));
        }
        catch
        {
            Release(volume);
            throw;
        }
    }

    /// <summary>One more user of a connection that has one.</summary>
    public void AddUser(GlusterVolume volume)
    {
        lock (_lock)
        {
            volume.Users++;
        }
    }

    /// <summary>One user less.</summary>
    public void Release(GlusterVolume volume)
    {
        lock (_lock)
        {
            if (--volume.Users == 0)
            {
                volume.Idle?.Dispose();
                volume.Idle = new Timer(_ => EndIfIdle(volume), null, linger, Timeout.InfiniteTimeSpan);
            }
        }
    }

    /// <summary>Connects on a thread of its own: it may take as long as the network likes.</summary>
    private Task<(int Errno, IGfapiVolume? Volume)> Connect(GfapiTarget target)
    {
        var thread = new GlusterThread("gluster connect");
        Task<(int, IGfapiVolume?)> task = thread.CallAsync(() =>
        {
            int result = library.TryConnect(target, out IGfapiVolume? volume);
            return (-result, volume);
        });
        thread.Stop();
        return task;
    }

    private void EndIfIdle(GlusterVolume volume)
    {
        lock (_lock)
        {
            if (volume.Users > 0)
            {
                return;
            }

            volume.Idle?.Dispose();
            if (_volumes.GetValueOrDefault(volume.Key) == volume)
            {
                _volumes.Remove(volume.Key);
            }
        }

        _ = EndAsync(volume);
    }

    private static async Task EndAsync(GlusterVolume volume)
    {
        (_, IGfapiVolume? connection) = await volume.Connecting.ConfigureAwait(false);
        if (connection is not null)
        {
            var thread = new GlusterThread("gluster end");
            thread.Post(connection.Finish);
            thread.Stop();
        }
    }
}

/// <summary>One connection. All but the fixed facts under the lock of <see cref="GlusterVolumes"/>.</summary>
internal sealed class GlusterVolume(string key, Task<(int Errno, IGfapiVolume? Volume)> connecting)
{
    /// <summary>What it is found by.</summary>
    public string Key { get; } = key;

    /// <summary>Ends with the connection, or an errno.</summary>
    public Task<(int Errno, IGfapiVolume? Volume)> Connecting { get; } = connecting;

    /// <summary>The connection, when there is one.</summary>
    public IGfapiVolume Connection => Connecting.Result.Volume!;

    /// <summary>Devices and open files.</summary>
    public int Users;

    /// <summary>Ends it after a while.</summary>
    public Timer? Idle;
}
