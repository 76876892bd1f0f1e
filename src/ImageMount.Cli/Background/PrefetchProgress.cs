using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Cli.Background;

/// <summary>Starts `--prefetch` and says how far it is, as long as that changes.</summary>
internal sealed class PrefetchProgress : IAsyncDisposable
{
    private const int NewsEvery = 10; // percent
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(1);

    private readonly IRemoteCache[] _caches;
    private readonly Action<string, bool> _note;
    private readonly PeriodicTimer _timer = new(s_interval);
    private readonly Task _running;

    private PrefetchProgress(IRemoteCache[] caches, Action<string, bool> note)
    {
        _caches = caches;
        _note = note;
        foreach (IRemoteCache cache in caches)
        {
            cache.StartFilling();
        }

        _running = RunAsync();
    }

    /// <summary>Starts it where it is wanted.</summary>
    /// <param name="isWanted">The user asked for it.</param>
    /// <param name="graph">The image.</param>
    /// <param name="note">Takes the text, and whether it is news for somebody who watches.</param>
    /// <param name="warn">Told that there is nothing to do.</param>
    public static PrefetchProgress? Start(bool isWanted, Graph graph, Action<string, bool> note, Action<string> warn)
    {
        if (!isWanted)
        {
            return null;
        }

        IRemoteCache[] caches = [.. graph.Nodes.Select(node => node.Device).OfType<IRemoteCache>()];
        if (caches.Length == 0)
        {
            warn("--prefetch has nothing to do: no part of this image is kept in the remote cache");
            return null;
        }

        return new PrefetchProgress(caches, note);
    }

    /// <summary>What is said of some caches.</summary>
    internal static string Describe(IReadOnlyList<RemoteCacheStatus> all)
    {
        long length = all.Sum(one => one.Length);
        long percent = length == 0 ? 100 : (long)((Int128)all.Sum(one => one.FillDone) * 100 / length);
        string? trouble = all.Select(one => one.Trouble).FirstOrDefault(text => text is not null);
        string shown = string.Create(CultureInfo.InvariantCulture, $"{percent} %");
        return all.Any(one => one.Fill == FillState.Running) ? shown
            : all.Any(one => one.Fill == FillState.Waiting) ? $"{shown}, waiting: {trouble}"
            : all.All(one => one.Fill == FillState.Complete) ? "complete"
            : trouble is null ? $"{shown}, stopped" : $"{shown}, stopped: {trouble}";
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _timer.Dispose();
        await _running.ConfigureAwait(false);
    }

    private async Task RunAsync()
    {
        string last = "";
        long news = -1;
        do
        {
            RemoteCacheStatus[] all = [.. _caches.Select(cache => cache.Status)];
            string text = Describe(all);
            if (text != last)
            {
                last = text;
                long tenth = all.Sum(one => one.FillDone) * (100 / NewsEvery) / Math.Max(1, all.Sum(one => one.Length));
                bool isNews = tenth != news || !all.Any(one => one.Fill == FillState.Running);
                news = tenth;
                _note(text, isNews);
            }

            if (all.All(one => one.Fill is FillState.Complete or FillState.Stopped))
            {
                return;
            }
        }
        while (await _timer.WaitForNextTickAsync().ConfigureAwait(false));
    }
}
