using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Http;

/// <summary>A file of a web server, read in parts.</summary>
internal sealed class HttpDevice : BlockDevice, IWaitsForPeer
{
    private const int SpoolChunk = 1 << 20;
    private static readonly TimeSpan s_firstPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_longestPause = TimeSpan.FromSeconds(5);

    private readonly HttpFile _file;
    private readonly LinkPolicy _policy;
    private readonly RemoteLink<HttpSession> _link;
    private readonly RangeReader _reader;
    private readonly CancellationTokenSource _noPauses = new();

    /// <summary>Not open yet.</summary>
    public HttpDevice(HttpFile file, HttpClientSettings settings, LinkPolicy policy, long readAhead)
    {
        _file = file;
        _policy = policy;
        _link = new RemoteLink<HttpSession>(
            file.Origin.Peer, policy,
            token => HttpSession.ConnectAsync(settings, file, policy.Timeout, token), (_, _) => Task.CompletedTask);
        _reader = new RangeReader(FetchAsync, () => Length, new RangeReaderOptions
        {
            BlockSize = 512 << 10,
            Window = readAhead,
            MaxBytes = Math.Max(16 << 20, 2 * readAhead),
        });
    }

    /// <inheritdoc/>
    public override long Length => Math.Max(0, _file.Version!.Length);

    /// <summary>Connects for the first time; true when parts of the file can be read.</summary>
    public async Task<bool> OpenAsync(CancellationToken cancellationToken) =>
        (await _link.OpenAsync(cancellationToken).ConfigureAwait(false)).HasRanges;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        _reader.ReadAsync(offset, buffer, cancellationToken);

    /// <inheritdoc/>
    public void StopWaiting(TimeSpan grace)
    {
        _link.StopWaiting(grace);
        _noPauses.Cancel();
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await _reader.StopAsync().ConfigureAwait(false);
        await _link.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>Reads all of it to a temporary file.</summary>
    /// <param name="hasRanges">Whether it can be read in parts.</param>
    /// <param name="progress">Told how far it is; or null.</param>
    /// <param name="warn">Told what cannot be known for sure.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public async Task<SpooledDevice> SpoolAsync(
        bool hasRanges, IProgress<OpenProgress>? progress, Action<string> warn, CancellationToken cancellationToken)
    {
        var spool = new SpooledDevice();
        long done = 0;
        void Report(int count) => progress?.Report(new OpenProgress(
            _file.Origin.Shown, "downloading", Interlocked.Add(ref done, count), _file.Version!.Length));
        try
        {
            if (hasRanges)
            {
                long chunks = (Length + SpoolChunk - 1) / SpoolChunk;
                var many = new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = cancellationToken };
                await Parallel.ForAsync(0, chunks, many, async (chunk, token) =>
                {
                    var buffer = new byte[(int)Math.Min(SpoolChunk, Length - (chunk * SpoolChunk))];
                    await FetchAsync(chunk * SpoolChunk, buffer, token).ConfigureAwait(false);
                    spool.Put(chunk * SpoolChunk, buffer);
                    Report(buffer.Length);
                }).ConfigureAwait(false);
            }
            else
            {
                await DownloadAsync(
                    spool, count => Report(count), () => Interlocked.Exchange(ref done, 0), warn, cancellationToken)
                    .ConfigureAwait(false);
            }

            return spool;
        }
        catch
        {
            await spool.CloseAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>From the beginning again when it breaks; gives up when that brings it no further.</summary>
    private async Task DownloadAsync(
        SpooledDevice spool, Action<int> report, Action restart, Action<string> warn, CancellationToken cancellationToken)
    {
        var trouble = new Trouble();
        long best = 0;
        while (true)
        {
            LinkLease<HttpSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                bool isSure = await lease.Session.DownloadAsync(
                    (at, bytes) =>
                    {
                        spool.Put(at, bytes.Span);
                        report(bytes.Length);
                    },
                    cancellationToken).ConfigureAwait(false);
                if (!isSure)
                {
                    warn("the server does not say how long the file is: if the connection broke, its end is missing");
                }

                return;
            }
            catch (HttpLossException e)
            {
                trouble = spool.Length > best ? new Trouble() : trouble;
                best = Math.Max(best, spool.Length);
                await GetOverAsync(e, lease, trouble, cancellationToken).ConfigureAwait(false);
                spool.Empty();
                restart();
            }
        }
    }

    /// <summary>The bytes from the server; lost requests are sent again.</summary>
    private async ValueTask FetchAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var trouble = new Trouble();
        while (!buffer.IsEmpty)
        {
            _file.ThrowIfChanged();
            LinkLease<HttpSession> lease = await _link.GetAsync(cancellationToken).ConfigureAwait(false);
            _file.ThrowIfChanged();
            try
            {
                int count = await lease.Session.ReadAsync(offset, buffer, cancellationToken).ConfigureAwait(false);
                offset += count;
                buffer = buffer[count..];
                trouble = new Trouble();
            }
            catch (HttpLossException e)
            {
                await GetOverAsync(e, lease, trouble, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Whether and when a lost request may be sent again. One loss is the connection's, two are the server's.</summary>
    private async Task GetOverAsync(
        HttpLossException e, LinkLease<HttpSession> lease, Trouble trouble, CancellationToken cancellationToken)
    {
        if (!_link.MayRetry(ref trouble.Began))
        {
            throw _link.Lost(e.Reason);
        }

        trouble.Count++;
        if (!e.IsAnswer && (trouble.Count > 1 || e.Reason.Kind == BlockErrorKind.TimedOut))
        {
            lease.Session.Abort(e.Reason);
        }

        if (!e.IsAnswer && trouble.Count == 1)
        {
            return;
        }

        TimeSpan pause = s_firstPause * Math.Pow(2, Math.Min(trouble.Count, 10));
        pause = e.Pause > pause ? e.Pause.Value : pause;
        pause = pause < s_longestPause ? pause : s_longestPause;
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _noPauses.Token);
        try
        {
            await Task.Delay(pause, _policy.Clock, both.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // The disk is being closed: one more try, and MayRetry ends it.
            trouble.Count++;
        }
    }

    /// <summary>How often and since when a request was lost, without getting any further.</summary>
    private sealed class Trouble
    {
        public long Began;

        public int Count;
    }
}
