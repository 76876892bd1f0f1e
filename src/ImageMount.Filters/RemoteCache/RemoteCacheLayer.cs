using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Filters.RemoteCache;

/// <summary>What the user wants of the cache.</summary>
/// <param name="Directory">Folder with its files.</param>
/// <param name="Limit">Most bytes of all files together.</param>
/// <param name="Unversioned">
/// What the user calls the state of disks whose protocol has no version: a statement that as long as this text is the
/// same, so are they. Null: such disks are not kept.
/// </param>
public sealed record RemoteCacheSettings(string Directory, long Limit, string? Unversioned)
{
    /// <summary>Where the user sets no limit.</summary>
    public const long DefaultLimit = 32L << 30;

    /// <summary>Smallest limit.</summary>
    public const long MinLimit = 1L << 20;
}

/// <summary>
/// The cache of remote disks: decides what may be kept under which version, and hands out devices over it. One for each
/// graph; processes share the folder.
/// </summary>
public sealed class RemoteCacheLayer : IRemoteLayer
{
    /// <summary>
    /// A time of modification is trusted when it is that old: younger ones may belong to another state already.
    /// </summary>
    private static readonly TimeSpan s_settled = TimeSpan.FromMinutes(1);

    private readonly RemoteCacheSettings _settings;
    private readonly CacheDirectory _directory;
    private readonly CacheBudget _budget;
    private readonly TimeProvider _clock;

    /// <summary>Opens the folder, and tidies up in it.</summary>
    /// <exception cref="BlockException">It cannot be used.</exception>
    public RemoteCacheLayer(RemoteCacheSettings settings, TimeProvider? clock = null)
    {
        _settings = settings;
        _clock = clock ?? TimeProvider.System;
        _directory = CacheDirectory.Open(settings.Directory);
        _budget = new CacheBudget(_directory, settings.Limit, _clock);
        _budget.Tidy();
    }

    /// <inheritdoc/>
    public BlockDevice? TryOpenOver(string key, BlockNode node, Action<string> warn)
    {
        if (node.Device is not IRemoteFile remote)
        {
            warn("it is read to a temporary file as a whole, so nothing of it is kept in the remote cache");
            return null;
        }

        if (node.Length is 0 or > CacheLayout.MaxLength)
        {
            return null;
        }

        if (VersionOf(remote.Version, out string whyNot) is not { } version)
        {
            warn($"nothing of it is kept in the remote cache: {whyNot}");
            return null;
        }

        CacheHeader header = CacheHeader.For(key, version, node.Length);
        if (_directory.TryOpen(header, out string why) is not { } file)
        {
            warn($"nothing of it is kept in the remote cache: {why}");
            return null;
        }

        _directory.Forget(header.Key, header); // Older states, which the server does not have any more.
        return new RemoteCacheDevice(file, node, remote, _budget, _clock, warn);
    }

    /// <inheritdoc/>
    public BlockDevice? TryOpenAlone(string key, BlockException why, Action<string> warn)
    {
        byte[] hash = CacheHeader.KeyOf(key);
        if (_directory.TryOpenLatest(hash) is not { } file)
        {
            return null;
        }

        if (!file.Header.Key.AsSpan().SequenceEqual(hash))
        {
            file.Dispose();
            return null;
        }

        long percent = file.CountMarked() * 100 / file.Header.Length;
        warn($"the server cannot be reached ({why.Message}); shown is the state that the remote cache knows, "
            + $"{file.Header.Version}, of which {percent} % are there");
        return new RemoteCacheDevice(file, $"the server could not be reached when it was opened ({why.Message})", warn);
    }

    /// <inheritdoc/>
    public bool Knows(string key) => _directory.Knows(CacheHeader.KeyOf(key));

    /// <inheritdoc/>
    public void Forget(string key, Action<string> warn)
    {
        if (!_directory.Forget(CacheHeader.KeyOf(key), except: null))
        {
            warn("another mount reads it through the remote cache, and will not see what is written");
        }
    }

    private string? VersionOf(RemoteVersion? version, out string whyNot)
    {
        whyNot = "";
        if (version is null)
        {
            whyNot = "the server has nothing that tells one state of it from another (say unversioned=TEXT if you know)";
            return _settings.Unversioned is { } text ? $"as named by the user: {text}" : null;
        }

        if (version.IsStrong)
        {
            return version.Text;
        }

        TimeSpan? age = _clock.GetUtcNow() - version.Modified;
        if (age >= s_settled)
        {
            return version.Text;
        }

        whyNot = "it was modified less than a minute ago, or in the future, so its time does not tell its state";
        return null;
    }
}
