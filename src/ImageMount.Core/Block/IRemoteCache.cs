namespace ImageMount.Core.Block;

/// <summary>
/// Implemented by devices that keep what they have read from a server, and can read the rest in the background.
/// </summary>
public interface IRemoteCache
{
    /// <summary>How far it is; cheap, from any thread.</summary>
    RemoteCacheStatus Status { get; }

    /// <summary>
    /// Begins to read all that is not there yet, behind everybody else's requests; it ends when the device is closed,
    /// or when nobody may wait for the server any more (<see cref="IWaitsForPeer"/>). Once; later calls do nothing.
    /// </summary>
    void StartFilling();
}

/// <summary>Where reading everything in the background stands.</summary>
public enum FillState
{
    /// <summary>It was not asked for.</summary>
    Off,

    /// <summary>Under way.</summary>
    Running,

    /// <summary>The server does not answer; it is tried again later.</summary>
    Waiting,

    /// <summary>All of it is there.</summary>
    Complete,

    /// <summary>It will not go on: no room, or the file has changed.</summary>
    Stopped,
}

/// <summary>What a cache has done since it was opened. Bytes.</summary>
/// <param name="HitBytes">Read from the cache.</param>
/// <param name="FetchedBytes">Read from the server.</param>
/// <param name="KeptBytes">Put into the cache.</param>
/// <param name="Fill">Where the background reading stands.</param>
/// <param name="FillDone">How much of the disk that has looked at.</param>
/// <param name="Length">Of the disk.</param>
/// <param name="Trouble">Why nothing more is kept, or the fill stands; or null.</param>
public readonly record struct RemoteCacheStatus(
    long HitBytes, long FetchedBytes, long KeptBytes, FillState Fill, long FillDone, long Length, string? Trouble);
