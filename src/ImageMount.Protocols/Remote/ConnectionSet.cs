using ImageMount.Core.Block;

namespace ImageMount.Protocols.Remote;

/// <summary>How a <see cref="ConnectionSet{T}"/> grows.</summary>
/// <param name="Most">Most connections.</param>
/// <param name="Busy">Requests on the least busy connection from which another one is worth having.</param>
/// <param name="Make">Makes one more.</param>
/// <param name="IsSame">Whether it shows what the first one does.</param>
/// <param name="NoMore">Told why there will be no more.</param>
internal sealed record ConnectionGrowth<T>(
    int Most, int Busy, Func<CancellationToken, Task<T>> Make, Func<T, bool> IsSame, Action<Exception> NoMore);

/// <summary>
/// One connection or several, which end together: which of them carried what does not matter to anybody then.
/// </summary>
/// <remarks>
/// More connections are made one by one, in the background, when those that are there are busy. When one cannot be had (the
/// server may have a limit), or shows something else (a name may stand for several servers), no more are asked for.
/// </remarks>
internal class ConnectionSet<T> : IRemoteSession
    where T : class, IRemoteConnection
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(10);

    private readonly ConnectionGrowth<T> _growth;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _lock = new();
    private readonly TaskCompletionSource<BlockException> _ended =
        new(TaskCreationOptions.RunContinuationsAsynchronously);
    private T[] _all;
    private Task _growing = Task.CompletedTask;
    private bool _isGrowing;

    /// <summary>A set with its first connection.</summary>
    public ConnectionSet(T first, ConnectionGrowth<T> growth)
    {
        _growth = growth;
        _all = [first];
        _ = WatchAsync(first);
    }

    /// <summary>The first one.</summary>
    public T Main => _all[0];

    /// <summary>Connections now.</summary>
    public int Count => Volatile.Read(ref _all).Length;

    /// <inheritdoc/>
    public int Outstanding => Volatile.Read(ref _all).Sum(connection => connection.Outstanding);

    /// <inheritdoc/>
    public long Progress => Volatile.Read(ref _all).Sum(connection => connection.Progress);

    /// <inheritdoc/>
    public Task<BlockException> Ended => _ended.Task;

    /// <summary>The least busy one.</summary>
    public T Choose()
    {
        T[] all = Volatile.Read(ref _all);
        T best = all[0];
        for (int i = 1; i < all.Length; i++)
        {
            best = all[i].Outstanding < best.Outstanding ? all[i] : best;
        }

        if (all.Length < _growth.Most && best.Outstanding >= _growth.Busy && !Volatile.Read(ref _isGrowing))
        {
            Grow();
        }

        return best;
    }

    /// <inheritdoc/>
    public void Abort(BlockException reason)
    {
        lock (_lock)
        {
            if (!_ended.TrySetResult(reason))
            {
                return;
            }
        }

        _stop.Cancel();
        foreach (T connection in Volatile.Read(ref _all))
        {
            connection.End(reason);
        }
    }

    /// <inheritdoc/>
    public async ValueTask CloseAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _growing.ConfigureAwait(false);
        await Task.WhenAll(_all.Select(connection => connection.CloseAsync().AsTask())).ConfigureAwait(false);
    }

    private void Grow()
    {
        lock (_lock)
        {
            if (_isGrowing || _stop.IsCancellationRequested)
            {
                return;
            }

            _isGrowing = true;
            _growing = Task.Run(GrowAsync);
        }
    }

    private async Task GrowAsync()
    {
        try
        {
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
            limit.CancelAfter(s_patience);
            T another = await _growth.Make(limit.Token).ConfigureAwait(false);
            lock (_lock)
            {
                if (_growth.IsSame(another) && !_ended.Task.IsCompleted && !_stop.IsCancellationRequested)
                {
                    Volatile.Write(ref _all, [.. _all, another]);
                    Volatile.Write(ref _isGrowing, false);
                    _ = WatchAsync(another);
                    return;
                }
            }

            await another.CloseAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (e is BlockException or OperationCanceledException)
        {
            // The connections that are there do; _isGrowing stays set, so that it is not tried again.
            _growth.NoMore(e);
        }
    }

    private async Task WatchAsync(T connection) => Abort(await connection.Ended.ConfigureAwait(false));
}
