using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Http;

/// <summary>A file of a web server, read in parts.</summary>
internal sealed class HttpDevice : BlockDevice, IWaitsForPeer, IRemoteFile
{
    private const int SpoolChunk = 1 << 20;

    private readonly HttpFile _file;
    private readonly RemoteLink<HttpSession> _link;
    private readonly Resender<HttpSession> _resender;
    private readonly RangeReader _reader;

    /// <summary>Not open yet.</summary>
    public HttpDevice(HttpFile file, HttpClientSettings settings, LinkPolicy policy, long readAhead)
    {
        _file = file;
        _link = new RemoteLink<HttpSession>(
            file.Origin.Peer, policy,
            token => HttpSession.ConnectAsync(settings, file, policy.Timeout, token), (_, _) => Task.CompletedTask);
        _resender = new Resender<HttpSession>(_link, policy.Clock);
        _reader = new RangeReader(FetchAsync, () => Length, new RangeReaderOptions
        {
            BlockSize = 1 << 20, // Each costs an answer's header, and some wake-ups.
            Window = readAhead,
            IsNear = () => file.Times.IsNear,
            MaxBytes = Math.Max(16 << 20, 2 * readAhead),
        });
    }

    /// <inheritdoc/>
    public override long Length => Math.Max(0, _file.Version!.Length);

    /// <inheritdoc/>
    public RemoteVersion? Version => _file.Version!.ToRemoteVersion();

    /// <inheritdoc/>
    /// <remarks>
    /// Every part is asked for with a condition, and its header compared. Not so where the server takes no conditions: then
    /// nobody knows whether an answer without a tag and a date belongs to the version.
    /// </remarks>
    public bool ChecksEveryRead => _file.UsesIfRange;

    /// <inheritdoc/>
    public ValueTask<bool> IsUnchangedAsync(CancellationToken cancellationToken) =>
        new(_file.UsesIfRange && !_file.HasChanged);

    /// <summary>Connects for the first time; true when parts of the file can be read.</summary>
    public async Task<bool> OpenAsync(CancellationToken cancellationToken) =>
        (await _link.OpenAsync(cancellationToken).ConfigureAwait(false)).HasRanges;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        _reader.ReadAsync(offset, buffer, cancellationToken);

    /// <inheritdoc/>
    public void StopWaiting(TimeSpan grace) => _resender.StopWaiting(grace);

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
            catch (LossException e)
            {
                trouble = spool.Length > best ? new Trouble() : trouble;
                best = Math.Max(best, spool.Length);
                await _resender.GetOverAsync(e, lease, trouble, cancellationToken).ConfigureAwait(false);
                spool.Empty();
                restart();
            }
        }
    }

    /// <summary>The bytes from the server; lost requests are sent again.</summary>
    private ValueTask FetchAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        _resender.ReadAsync(
            offset, buffer, static (session, at, part, token) => session.ReadAsync(at, part, token), _file.ThrowIfChanged,
            cancellationToken);
}
