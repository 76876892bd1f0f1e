using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Nbd;

/// <summary>
/// One connection to an export, or several where the server says that they see each other's writes and flushes. They end
/// together: which of them carried what does not matter to anybody then.
/// </summary>
/// <remarks>
/// More connections are made one by one, in the background, when those that are there are busy. A server that refuses
/// another one (it may have a limit) is not asked again.
/// </remarks>
internal sealed class NbdSession : IRemoteSession
{
    /// <summary>Requests on the least busy connection from which another one is worth having.</summary>
    private const int Busy = 4;

    private readonly NbdConnector _connector;
    private readonly int _most;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _lock = new();
    private readonly TaskCompletionSource<BlockException> _ended =
        new(TaskCreationOptions.RunContinuationsAsynchronously);
    private NbdConnection[] _connections;
    private Task _growing = Task.CompletedTask;
    private bool _isGrowing;

    /// <summary>A session with its first connection.</summary>
    /// <param name="first">Not started yet.</param>
    /// <param name="connector">Makes more.</param>
    /// <param name="most">Most connections.</param>
    public NbdSession(NbdConnection first, NbdConnector connector, int most)
    {
        _connector = connector;
        _connections = [first];
        _most = first.Export.Can(NbdExportFlags.CanMultiConn) ? most : 1;
        Watch(first);
    }

    /// <summary>What the handshake found.</summary>
    public NbdExport Export => _connections[0].Export;

    /// <summary>Connections now.</summary>
    public int Connections => Volatile.Read(ref _connections).Length;

    /// <inheritdoc/>
    public int Outstanding => Volatile.Read(ref _connections).Sum(connection => connection.Outstanding);

    /// <inheritdoc/>
    public long Progress => Volatile.Read(ref _connections).Sum(connection => connection.Progress);

    /// <inheritdoc/>
    public Task<BlockException> Ended => _ended.Task;

    /// <summary>Sends a request and waits for its end.</summary>
    public ValueTask<NbdOutcome> RequestAsync(
        NbdCommand command, NbdCommandFlags flags, long offset, long length, Memory<byte> target,
        ReadOnlyMemory<byte> payload, CancellationToken cancellationToken)
    {
        NbdConnection chosen = Choose();
        NbdRequest request = NbdRequest.Rent(command, flags, offset, length, target, payload);
        return chosen.RequestAsync(request, cancellationToken);
    }

    /// <summary>Asks for block status; the extents are in order and not empty when it went well.</summary>
    public async ValueTask<(NbdOutcome Outcome, NbdStatus[] Extents)> StatusAsync(long offset, long length)
    {
        NbdRequest request = NbdRequest.Rent(
            NbdCommand.BlockStatus, NbdCommandFlags.None, offset, length, default, default);
        return await Choose().StatusAsync(request).ConfigureAwait(false);
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
        foreach (NbdConnection connection in Volatile.Read(ref _connections))
        {
            connection.End(reason);
        }
    }

    /// <inheritdoc/>
    public async ValueTask CloseAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _growing.ConfigureAwait(false);
        await Task.WhenAll(_connections.Select(connection => connection.CloseAsync().AsTask())).ConfigureAwait(false);
    }

    private NbdConnection Choose()
    {
        NbdConnection[] all = Volatile.Read(ref _connections);
        NbdConnection best = all[0];
        for (int i = 1; i < all.Length; i++)
        {
            best = all[i].Outstanding < best.Outstanding ? all[i] : best;
        }

        if (all.Length < _most && best.Outstanding >= Busy && !Volatile.Read(ref _isGrowing))
        {
            Grow();
        }

        return best;
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
            limit.CancelAfter(TimeSpan.FromSeconds(10));
            NbdConnection another = await _connector.ConnectAsync(limit.Token).ConfigureAwait(false);
            bool isSame = another.Export.Size == Export.Size && another.Export.Flags == Export.Flags
                && another.Export.Context == Export.Context;
            lock (_lock)
            {
                if (isSame && !_ended.Task.IsCompleted && !_stop.IsCancellationRequested)
                {
                    Volatile.Write(ref _connections, [.. _connections, another]);
                    Volatile.Write(ref _isGrowing, false);
                    Watch(another);
                    return;
                }
            }

            await another.CloseAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (e is BlockException or OperationCanceledException)
        {
            // The connections that are there do; _isGrowing stays set, so that it is not tried again.
            _connector.NoMore(e);
        }
    }

    private void Watch(NbdConnection connection)
    {
        connection.Start();
        _ = WatchAsync(connection);
    }

    private async Task WatchAsync(NbdConnection connection) =>
        Abort(await connection.Ended.ConfigureAwait(false));
}
