using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;
using ImageMount.Interop;

namespace ImageMount.Filters.RemoteCache;

/// <summary>
/// Shows a disk of a server, read-only, and keeps what was read of it in a <see cref="CacheFile"/>. A unit is in one of
/// three states: ready (its bytes in the file were written or verified since this device was opened: plain reads),
/// marked (somebody kept it: its bytes are verified when they are read for the first time), missing (it is fetched).
/// </summary>
/// <remarks>
/// The cache may fail in any way, and requests go to the server as if there were none; it never makes a request fail
/// that the server would have answered. Where there is no server (it could not be reached), what is missing is an
/// error.
/// </remarks>
internal sealed class RemoteCacheDevice : BlockDevice, IRemoteCache, IWaitsForPeer
{
    private const int Unit = CacheLayout.UnitSize;
    private const int Cluster = CacheLayout.ClusterSize;

    /// <summary>Most that is looked at, and fetched, in one step.</summary>
    private const int MaxStep = 1 << 20;
    private static readonly TimeSpan s_patienceAtEnd = TimeSpan.FromSeconds(3);

    private readonly CacheFile _file;
    private readonly BlockNode? _source;
    private readonly BlockChild[] _children;
    private readonly CacheBudget? _budget;
    private readonly CachePublisher? _publisher;
    private readonly Action<string> _warn;
    private readonly string _away;
    private readonly UnitSet _ready;
    private readonly BusyClusters _busy = new();
    private readonly CacheFiller? _filler;
    private string? _trouble;
    private int _isKeeping;
    private long _hits;
    private long _fetched;
    private long _kept;

    /// <summary>Over a node.</summary>
    public RemoteCacheDevice(
        CacheFile file, BlockNode source, IRemoteFile remote, CacheBudget budget, TimeProvider clock, Action<string> warn)
        : this(file, "", warn)
    {
        _source = source;
        _children = [new BlockChild("file", source)];
        _budget = budget;
        _isKeeping = 1;
        _publisher = new CachePublisher(file, remote, clock, Failed, Changed);
        _filler = new CacheFiller(this, remote.PrefersOrder, clock);
        Limits = BlockLimits.Default with { OptimalTransfer = Math.Max(Cluster, source.Limits.OptimalTransfer) };
    }

    /// <summary>Without a node.</summary>
    /// <param name="file">What is known.</param>
    /// <param name="away">Why there is no node.</param>
    /// <param name="warn">Tells the user something.</param>
    public RemoteCacheDevice(CacheFile file, string away, Action<string> warn)
    {
        _file = file;
        _away = away;
        _warn = warn;
        _children = [];
        _ready = new UnitSet(file.Layout.Units);
    }

    /// <inheritdoc/>
    public override long Length => _file.Layout.Length;

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities =>
        (_source?.Capabilities ?? BlockCapabilities.None) & BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits { get; } = BlockLimits.Default with { OptimalTransfer = Cluster };

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <inheritdoc/>
    public RemoteCacheStatus Status => new(
        Interlocked.Read(ref _hits), Interlocked.Read(ref _fetched), Interlocked.Read(ref _kept),
        _filler?.State ?? FillState.Off, _filler?.Done ?? 0, Length, Volatile.Read(ref _trouble) ?? _filler?.Trouble);

    /// <summary>
    /// True while filling makes sense: what is fetched is put into the file, and there is room for it.
    /// </summary>
    internal bool HasRoom => IsKeeping && Volatile.Read(ref _trouble) is null;

    private bool IsKeeping => Volatile.Read(ref _isKeeping) != 0;

    /// <summary>Completes when nobody but the filler waits for the server.</summary>
    internal Task WhenQuietAsync() => _busy.WhenQuietAsync();

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (_ready.ContainsAll(offset / Unit, (offset + buffer.Length - 1) / Unit) && _file.TryRead(offset, buffer.Span))
        {
            Interlocked.Add(ref _hits, buffer.Length);
            return default;
        }

        return ReadStepsAsync(offset, buffer, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken) =>
        _source!.MapAsync(offset, count, cancellationToken);

    /// <inheritdoc/>
    public void StartFilling() => _filler?.Start();

    /// <inheritdoc/>
    public void StopWaiting(TimeSpan grace) => _filler?.Stop();

    /// <inheritdoc/>
    public override async ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        if (_source is not null)
        {
            info.ActualSize = (await _source.DescribeAsync(cancellationToken).ConfigureAwait(false)).ActualSize;
        }

        info.FormatSpecific.Add(new("version", _file.Header.Version));
        info.FormatSpecific.Add(new("cached", _file.CountMarked()));
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        try
        {
            if (_filler is not null)
            {
                await _filler.CloseAsync().ConfigureAwait(false);
            }

            if (_publisher is not null && IsKeeping)
            {
                using var limit = new CancellationTokenSource(s_patienceAtEnd);
                await _publisher.FinishAsync(limit.Token).ConfigureAwait(false);
            }
        }
        finally
        {
            _file.Dispose();
        }
    }

    /// <summary>
    /// Sees to it that a range is in the file; for the filler. The range is at most <see cref="MaxStep"/>.
    /// </summary>
    internal async ValueTask FillAsync(long offset, int count, CancellationToken cancellationToken)
    {
        var plan = new ReadPlan(_file, _ready, offset, count);
        for (int i = 0; i < plan.Runs.Count; i++)
        {
            ReadRun run = plan.Runs[i];
            while (!run.IsLocal && run.Length > 0)
            {
                int done = await FetchAsync(run.Offset, run.Length, default, isFiller: true, cancellationToken)
                    .ConfigureAwait(false);
                run = new ReadRun(run.Offset + done, run.Length - done, false);
            }
        }
    }

    private async ValueTask ReadStepsAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (!buffer.IsEmpty)
        {
            int step = (int)Math.Min(buffer.Length, MaxStep - (offset % MaxStep));
            await ReadStepAsync(offset, buffer[..step], cancellationToken).ConfigureAwait(false);
            offset += step;
            buffer = buffer[step..];
        }
    }

    private async ValueTask ReadStepAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        // What turns out to be wrong is missing in the next plan; what others fetch meanwhile is there.
        var plan = new ReadPlan(_file, _ready, offset, buffer.Length);
        for (int i = 0; i < plan.Runs.Count; i++)
        {
            ReadRun run = plan.Runs[i];
            Memory<byte> part = buffer.Slice((int)(run.Offset - offset), run.Length);
            if (run.IsLocal)
            {
                foreach (ReadRun wrong in plan.ReadLocal(run, part.Span))
                {
                    await FetchAllAsync(
                        wrong, buffer.Slice((int)(wrong.Offset - offset), wrong.Length), cancellationToken)
                        .ConfigureAwait(false);
                    Interlocked.Add(ref _hits, -wrong.Length);
                }

                Interlocked.Add(ref _hits, run.Length);
            }
            else
            {
                await FetchAllAsync(run, part, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private async ValueTask FetchAllAsync(ReadRun run, Memory<byte> target, CancellationToken cancellationToken)
    {
        long offset = run.Offset;
        while (!target.IsEmpty)
        {
            int done = await FetchAsync(offset, target.Length, target, isFiller: false, cancellationToken)
                .ConfigureAwait(false);
            offset += done;
            target = target[done..];
        }
    }

    /// <summary>
    /// Gets the first bytes of a range from the server, in whole clusters, and keeps them; or waits until somebody else
    /// who is fetching them is done, and takes them from the file. Returns how many bytes of the range that were.
    /// </summary>
    /// <param name="offset">Begin.</param>
    /// <param name="count">Bytes that are wanted.</param>
    /// <param name="target">Gets them; empty: they are only to be kept.</param>
    /// <param name="isFiller">The request is nobody's.</param>
    /// <param name="cancellationToken">Of the request.</param>
    private async ValueTask<int> FetchAsync(
        long offset, int count, Memory<byte> target, bool isFiller, CancellationToken cancellationToken)
    {
        if (_source is null)
        {
            throw new BlockException(BlockErrorKind.IoError, $"these bytes are not in the remote cache, and {_away}")
            {
                Offset = offset,
                Hint = "Mount it again when the server can be reached.",
            };
        }

        long first = offset / Cluster;
        long last = (offset + count - 1) / Cluster;
        long claimed;
        using (_busy.Enter(isFiller))
        {
            while ((claimed = _busy.TryClaim(first, last, out Task other)) == 0)
            {
                await other.WaitAsync(cancellationToken).ConfigureAwait(false);
                int had = TakeReady(offset, count, target.Span);
                if (had > 0)
                {
                    return had;
                }
            }

            try
            {
                long from = first * Cluster;
                int length = (int)(Math.Min(Length, (first + claimed) * Cluster) - from);
                int wanted = (int)Math.Min(count, from + length - offset);
                using BufferLease lease = BufferPool.Shared.Rent(length);
                await _source.ReadAsync(from, lease.Memory, cancellationToken).ConfigureAwait(false);
                Interlocked.Add(ref _fetched, length);
                if (!target.IsEmpty)
                {
                    lease.Span.Slice((int)(offset - from), wanted).CopyTo(target.Span);
                }

                Keep(from, lease.Span);
                return wanted;
            }
            finally
            {
                _busy.Release(first, claimed);
            }
        }
    }

    /// <summary>The first bytes of a range that are ready by now.</summary>
    private int TakeReady(long offset, int count, Span<byte> target)
    {
        long end = offset;
        while (end < offset + count && _ready.Contains(end / Unit))
        {
            end = Math.Min(offset + count, ((end / Unit) + 1) * Unit);
        }

        int had = (int)(end - offset);
        return target.IsEmpty || had == 0 || _file.TryRead(offset, target[..had]) ? had : 0;
    }

    /// <summary>
    /// Puts whole units into the file, those that are not ready. Never fails: then they are just not kept.
    /// </summary>
    private void Keep(long from, ReadOnlySpan<byte> bytes)
    {
        long first = from / Unit;
        int units = (bytes.Length + Unit - 1) / Unit;
        Span<uint> marks = stackalloc uint[units];
        Span<uint> before = stackalloc uint[units];
        _file.ReadMarks(first, before);
        for (int i = 0; i < units && IsKeeping;)
        {
            int next = i;
            while (next < units && !_ready.Contains(first + next))
            {
                marks[next] = UnitChecksum.Of(UnitOf(bytes, next));
                next++;
            }

            KeepRun(first, bytes, i, next, marks, before);
            i = next + 1;
        }
    }

    /// <summary>Keeps some units that follow each other; of those that are all zero, only the mark.</summary>
    private void KeepRun(
        long first, ReadOnlySpan<byte> bytes, int from, int end, ReadOnlySpan<uint> marks, ReadOnlySpan<uint> before)
    {
        for (int i = from; i < end && IsKeeping;)
        {
            // The file is a hole where nothing was kept. Zeroes that were not written are no more than marked: should
            // there be something in the hole after all, it is found when the unit is verified, and then overwritten.
            bool isZero = before[i] == 0 && IsZero(UnitOf(bytes, i));
            int next = i + 1;
            while (next < end && (before[next] == 0 && IsZero(UnitOf(bytes, next))) == isZero)
            {
                next++;
            }

            ReadOnlySpan<byte> run = bytes[(i * Unit)..Math.Min(bytes.Length, next * Unit)];
            if (!isZero)
            {
                if (!_budget!.TryTake(run.Length))
                {
                    Full();
                    return;
                }

                int errno = _file.Write((first + i) * Unit, run);
                if (errno != 0)
                {
                    Failed(errno);
                    return;
                }

                for (int unit = i; unit < next; unit++)
                {
                    _ready.Add(first + unit);
                }
            }

            Interlocked.Add(ref _kept, run.Length);
            _publisher!.Add(first + i, marks[i..next]);
            i = next;
        }
    }

    private static ReadOnlySpan<byte> UnitOf(ReadOnlySpan<byte> bytes, int unit) =>
        bytes[(unit * Unit)..Math.Min(bytes.Length, (unit + 1) * Unit)];

    private static bool IsZero(ReadOnlySpan<byte> bytes) => !bytes.ContainsAnyExcept((byte)0);

    private void Full() => StopKeeping(
        $"the remote cache is full ({_budget!.Limit} bytes), and all of it is in use", isForGood: false);

    private void Failed(int errno) =>
        StopKeeping($"the remote cache cannot be written: {Errno.Format(errno)}", isForGood: true);

    private void Changed() => StopKeeping(
        "the server does not say that the file is still as it was when it was opened", isForGood: true);

    /// <summary>Says once why nothing more is kept. When there is no room, that may be another matter later.</summary>
    private void StopKeeping(string why, bool isForGood)
    {
        if (isForGood)
        {
            Volatile.Write(ref _isKeeping, 0);
        }

        if (Interlocked.Exchange(ref _trouble, why) is null)
        {
            _warn($"{why}; what is read from now on is not kept");
        }
    }
}
