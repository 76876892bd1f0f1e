using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ftp;

/// <summary>
/// A pool of channels. Each has a queue: a read that goes on where the last one in a queue ends waits there, so that a
/// reader in order has one transfer; any other takes a free channel, a new one, or the shortest queue.
/// </summary>
internal sealed class FtpSession : IRemoteSession
{
    /// <summary>Of a channel that only looks; no other has it.</summary>
    private const int LookingLane = 1000;

    private readonly FtpTarget _target;
    private readonly FtpFile _file;
    private readonly LinkPolicy _policy;
    private readonly Lock _lock = new();
    private readonly List<Slot> _slots = [];
    private readonly CancellationTokenSource _abort = new();
    private readonly TaskCompletionSource<BlockException> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _most;
    private int _outstanding;
    private long _progress;
    private long _uses;

    private FtpSession(FtpTarget target, FtpFile file, LinkPolicy policy, int connections)
    {
        _target = target;
        _file = file;
        _policy = policy;
        _most = connections;
    }

    /// <inheritdoc/>
    public int Outstanding => Volatile.Read(ref _outstanding);

    /// <inheritdoc/>
    public long Progress => Interlocked.Read(ref _progress);

    /// <inheritdoc/>
    public Task<BlockException> Ended => _ended.Task;

    /// <summary>True when exact ranges can be asked for.</summary>
    public bool HasRange { get; private set; }

    /// <summary>Logs in, and looks at the file.</summary>
    public static async Task<FtpSession> ConnectAsync(
        FtpTarget target, FtpFile file, LinkPolicy policy, int connections, CancellationToken cancellationToken)
    {
        var session = new FtpSession(target, file, policy, connections);
        using var limit = new ProgressLimit(policy.Timeout, cancellationToken, session._abort.Token);
        try
        {
            FtpChannel channel = await FtpChannel.ConnectAsync(target, file, 0, policy.Clock, limit).ConfigureAwait(false);
            session._slots.Add(new Slot { Channel = channel });
            session.HasRange = channel.HasRange;
            return channel.CanRestart ? session : throw BlockException.Unsupported(
                $"{target.Peer}: the server cannot begin in the middle of a file (REST, RANG)", "Fetch the file, with curl say.");
        }
        catch (Exception e)
        {
            await session.CloseAsync().ConfigureAwait(false);
            cancellationToken.ThrowIfCancellationRequested();
            throw e switch
            {
                BlockException => e,
                LossException loss => loss.Reason,
                OperationCanceledException => session.Silent(),
                _ when NetworkErrors.IsNetwork(e) => NetworkErrors.Broken(e, target.Peer),
                _ => e,
            };
        }
    }

    /// <summary>Looks at the file anew, on a connection of its own: the others may be in the middle of transfers.</summary>
    /// <exception cref="BlockException">The server does not tell.</exception>
    public async Task<bool> IsUnchangedAsync(CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _outstanding);
        using var limit = new ProgressLimit(_policy.Timeout, cancellationToken, _abort.Token);
        try
        {
            FtpChannel channel = await FtpChannel.ConnectAsync(_target, _file, LookingLane, _policy.Clock, limit)
                .ConfigureAwait(false);
            await channel.DisposeAsync().ConfigureAwait(false);
            return true;
        }
        catch (BlockException) when (_file.HasChanged)
        {
            return false;
        }
        catch (Exception e) when (e is LossException or OperationCanceledException || NetworkErrors.IsNetwork(e))
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw (e as LossException)?.Reason ?? Silent();
        }
        finally
        {
            Interlocked.Decrement(ref _outstanding);
        }
    }

    /// <summary>Fills the buffer.</summary>
    /// <exception cref="LossException">It may be asked for again.</exception>
    public async Task<int> ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _outstanding);
        using var limit = new ProgressLimit(_policy.Timeout, cancellationToken, _abort.Token);
        try
        {
            while (!await TryReadAsync(offset, buffer, limit).ConfigureAwait(false))
            {
                limit.Token.ThrowIfCancellationRequested();
            }

            return buffer.Length;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new LossException(_ended.Task.IsCompletedSuccessfully ? await Ended.ConfigureAwait(false) : Silent());
        }
        catch (Exception e) when (NetworkErrors.IsNetwork(e))
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw new LossException(NetworkErrors.Broken(e, _target.Peer));
        }
        finally
        {
            Interlocked.Decrement(ref _outstanding);
        }
    }

    /// <inheritdoc/>
    public void Abort(BlockException reason)
    {
        if (_ended.TrySetResult(reason))
        {
            _abort.Cancel();
        }
    }

    /// <inheritdoc/>
    public async ValueTask CloseAsync()
    {
        FtpChannel?[] channels;
        lock (_lock)
        {
            // Channels in use belong to their request, which ends and disposes them when the session is aborted.
            channels = [.. _slots.Where(slot => slot.Waiting == 0).Select(slot => slot.Channel)];
            _slots.RemoveAll(slot => slot.Waiting == 0);
        }

        foreach (FtpChannel? channel in channels)
        {
            if (channel is not null)
            {
                await channel.DisposeAsync().ConfigureAwait(false);
            }
        }
    }

    /// <summary>Waits in a queue and reads. False: the server does not allow that channel; another is to be taken.</summary>
    private async Task<bool> TryReadAsync(long offset, Memory<byte> buffer, ProgressLimit limit)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Slot slot = Enter(offset, buffer.Length, done.Task, out Task before);
        bool isOurTurn = false;
        try
        {
            await before.WaitAsync(limit.Token).ConfigureAwait(false);
            isOurTurn = true;
            limit.Renew();
            return !slot.IsGone && await TryRunAsync(slot, offset, buffer, limit).ConfigureAwait(false);
        }
        finally
        {
            FtpChannel? orphan = null;
            lock (_lock)
            {
                // When the session is closed, a channel goes with its last request.
                if (--slot.Waiting == 0 && _abort.IsCancellationRequested)
                {
                    (orphan, slot.Channel) = (slot.Channel, null);
                }
            }

            if (orphan is not null)
            {
                await orphan.DisposeAsync().ConfigureAwait(false);
            }

            if (isOurTurn)
            {
                done.SetResult();
            }
            else
            {
                _ = before.ContinueWith(_ => done.SetResult(), TaskScheduler.Default);
            }
        }
    }

    /// <summary>Puts a request into a queue; <paramref name="before"/> is what it waits for.</summary>
    private Slot Enter(long offset, int count, Task done, out Task before)
    {
        lock (_lock)
        {
            Slot? slot = _slots.Find(other => !HasRange && other.Next == offset)
                ?? _slots.Where(other => other.Waiting == 0).MinBy(other => other.LastUse);
            if (slot is null && _slots.Count >= Math.Max(1, _most))
            {
                slot = _slots.MinBy(other => other.Waiting);
            }
            else if (!HasRange && slot is not null && slot.Next != offset && _slots.Count < _most)
            {
                slot = null; // A transfer that somebody may still read on from is left alone while there is room.
            }

            if (slot is null)
            {
                slot = new Slot { Lane = Enumerable.Range(0, _slots.Count + 1).First(n => _slots.TrueForAll(s => s.Lane != n)) };
                _slots.Add(slot);
            }

            slot.LastUse = ++_uses;
            slot.Waiting++;
            slot.Next = offset + count;
            before = slot.Tail;
            slot.Tail = done;
            return slot;
        }
    }

    private async Task<bool> TryRunAsync(Slot slot, long offset, Memory<byte> buffer, ProgressLimit limit)
    {
        try
        {
            if (slot.Channel is { } old && !old.GoesOn(offset, buffer.Length)
                && !await old.TryStopAsync(limit).ConfigureAwait(false))
            {
                await old.DisposeAsync().ConfigureAwait(false);
                slot.Channel = null;
            }

            if (slot.Channel is null && !await TryConnectAsync(slot, limit).ConfigureAwait(false))
            {
                return false;
            }

            await slot.Channel!.ReadAsync(offset, buffer, () => Interlocked.Increment(ref _progress), limit)
                .ConfigureAwait(false);
            return true;
        }
        catch
        {
            if (slot.Channel is { } broken)
            {
                slot.Channel = null;
                await broken.DisposeAsync().ConfigureAwait(false);
            }

            lock (_lock)
            {
                slot.Next = slot.Waiting > 1 ? slot.Next : -1;
            }

            throw;
        }
    }

    /// <summary>
    /// One more channel. False: the server allows no more than there are, so this slot is given up.
    /// </summary>
    private async Task<bool> TryConnectAsync(Slot slot, ProgressLimit limit)
    {
        try
        {
            slot.Channel = await FtpChannel.ConnectAsync(_target, _file, slot.Lane, _policy.Clock, limit).ConfigureAwait(false);
            Interlocked.Increment(ref _progress);
            return true;
        }
        catch (Exception e) when (e is LossException { IsAnswer: true } or BlockException { Kind: BlockErrorKind.PermissionDenied })
        {
            lock (_lock)
            {
                int working = _slots.Count(other => other.Channel is not null);
                if (working == 0)
                {
                    throw;
                }

                _most = Math.Min(_most, working);
                _slots.Remove(slot);
                slot.IsGone = true;
                return false;
            }
        }
    }

    private BlockException Silent() => new(
        BlockErrorKind.TimedOut, $"{_target.Peer} did not answer for {_policy.Timeout.TotalSeconds:0.#} s");

    /// <summary>A channel, or the place for one, and the requests that wait for it. Its facts under the lock.</summary>
    private sealed class Slot
    {
        /// <summary>Belongs to whose turn it is.</summary>
        public FtpChannel? Channel;

        /// <summary>Its number among those that there are.</summary>
        public int Lane;

        public Task Tail = Task.CompletedTask;

        /// <summary>It is not in the pool any more; who waits for it takes another.</summary>
        public bool IsGone;

        /// <summary>Where the last request ends; -1: nowhere.</summary>
        public long Next = -1;

        /// <summary>Requests, the one whose turn it is included.</summary>
        public int Waiting;

        public long LastUse;
    }
}
