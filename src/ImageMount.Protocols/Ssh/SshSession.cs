using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ssh;

/// <summary>
/// One file, open on one connection or several, which end together. The first carries all changes; the others help with
/// reading, where a single one is bounded by its window and by one processor.
/// </summary>
/// <remarks>
/// More connections are made one by one, in the background, when those that are there are busy. One that shows another file
/// (a name may stand for several servers) is not used, and then no more are made.
/// </remarks>
internal sealed class SshSession : IRemoteSession
{
    /// <summary>Requests on the least busy connection from which another one is worth having.</summary>
    private const int Busy = 8;

    private readonly SshConnector _connector;
    private readonly int _most;
    private readonly bool _writable;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _lock = new();
    private readonly TaskCompletionSource<BlockException> _ended =
        new(TaskCreationOptions.RunContinuationsAsynchronously);
    private SftpFile[] _files;
    private Task _growing = Task.CompletedTask;
    private bool _isGrowing;

    /// <summary>A session with its first connection.</summary>
    /// <param name="first">The file.</param>
    /// <param name="connector">Makes more.</param>
    /// <param name="most">Most connections.</param>
    /// <param name="writable">True when the file may be changed.</param>
    public SshSession(SftpFile first, SshConnector connector, int most, bool writable)
    {
        _connector = connector;
        _files = [first];
        _most = most;
        _writable = writable;
        _ = WatchAsync(first);
    }

    /// <summary>For all changes.</summary>
    public SftpFile Main => _files[0];

    /// <summary>Connections now.</summary>
    public int Connections => Volatile.Read(ref _files).Length;

    /// <inheritdoc/>
    public int Outstanding => Volatile.Read(ref _files).Sum(file => file.Connection.Outstanding);

    /// <inheritdoc/>
    public long Progress => Volatile.Read(ref _files).Sum(file => file.Connection.Progress);

    /// <inheritdoc/>
    public Task<BlockException> Ended => _ended.Task;

    /// <summary>For a read.</summary>
    public SftpFile Choose()
    {
        SftpFile[] all = Volatile.Read(ref _files);
        SftpFile best = all[0];
        for (int i = 1; i < all.Length; i++)
        {
            best = all[i].Connection.Outstanding < best.Connection.Outstanding ? all[i] : best;
        }

        if (all.Length < _most && best.Connection.Outstanding >= Busy && !Volatile.Read(ref _isGrowing))
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
        foreach (SftpFile file in Volatile.Read(ref _files))
        {
            file.Connection.End(reason);
        }
    }

    /// <inheritdoc/>
    public async ValueTask CloseAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _growing.ConfigureAwait(false);
        await Task.WhenAll(_files.Select(file => file.Connection.CloseAsync().AsTask())).ConfigureAwait(false);
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
            SftpFile another = await _connector.OpenAsync(writable: false, limit.Token).ConfigureAwait(false);
            bool isSame = another.Connection.MaxRead == Main.Connection.MaxRead
                && (_writable || another.Attributes == Main.Attributes);
            lock (_lock)
            {
                if (isSame && !_ended.Task.IsCompleted && !_stop.IsCancellationRequested)
                {
                    Volatile.Write(ref _files, [.. _files, another]);
                    Volatile.Write(ref _isGrowing, false);
                    _ = WatchAsync(another);
                    return;
                }
            }

            await another.Connection.CloseAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (e is BlockException or OperationCanceledException)
        {
            // The connections that are there do; _isGrowing stays set, so that it is not tried again.
            _connector.NoMore(e);
        }
    }

    private async Task WatchAsync(SftpFile file) =>
        Abort(await file.Connection.Ended.ConfigureAwait(false));
}
