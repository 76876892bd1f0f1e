using System.Diagnostics;
using System.Net.Http.Headers;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Http;

/// <summary>
/// A client with its connections: asks for parts of the file, several at once, each on a connection of its own.
/// </summary>
/// <remarks>
/// A request ends in one of three ways: bytes (maybe fewer than asked for), a BlockException (asking again would not help),
/// or a <see cref="LossException"/>. Redirections are followed when the session begins, and again when the place they
/// led to refuses (a signed address has expired, say); in between, requests go there directly.
/// </remarks>
internal sealed class HttpSession : IRemoteSession
{
    private const int MaxRedirects = 20;

    private readonly HttpClientSettings _settings;
    private readonly HttpFile _file;
    private readonly HttpMessageInvoker _client;
    private readonly TimeSpan _timeout;
    private readonly SemaphoreSlim _slots;
    private readonly SemaphoreSlim _resolving = new(1, 1);
    private readonly CancellationTokenSource _abort = new();
    private readonly TaskCompletionSource<BlockException> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private HttpPlace _target;
    private int _outstanding;
    private long _progress;
    private int _isClosed;

    private HttpSession(HttpClientSettings settings, HttpFile file, TimeSpan timeout)
    {
        _settings = settings;
        _file = file;
        _timeout = timeout;
        _target = file.Target;
        _client = settings.MakeClient();
        _slots = new SemaphoreSlim(settings.Connections);
    }

    /// <inheritdoc/>
    public int Outstanding => Volatile.Read(ref _outstanding);

    /// <inheritdoc/>
    public long Progress => Interlocked.Read(ref _progress);

    /// <inheritdoc/>
    public Task<BlockException> Ended => _ended.Task;

    /// <summary>True when the server sends parts.</summary>
    public bool HasRanges { get; private set; }

    /// <summary>Finds the file and what state it is in.</summary>
    /// <exception cref="BlockException">It cannot be reached, or is not there.</exception>
    public static async Task<HttpSession> ConnectAsync(
        HttpClientSettings settings, HttpFile file, TimeSpan timeout, CancellationToken cancellationToken)
    {
        var session = new HttpSession(settings, file, timeout);
        try
        {
            HttpProbe? probe = null;
            if (file.Target != file.Origin)
            {
                // Redirections may lead to another mirror each time; the one of before is certainly the same file.
                try
                {
                    probe = await session.AskAsync(file.Target, cancellationToken).ConfigureAwait(false);
                }
                catch (BlockException)
                {
                    probe = null;
                }
            }

            session.Accept(probe ?? await session.AskAsync(file.Origin, cancellationToken).ConfigureAwait(false));
            return session;
        }
        catch
        {
            await session.CloseAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Reads the first bytes of a range, at least one.</summary>
    /// <exception cref="LossException">Nothing was read; the request may be sent again.</exception>
    public async Task<int> ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var part = new Part(offset, buffer);
        await RunAsync(
            async limit =>
            {
                // The second round has another target, or asks without a condition.
                for (int round = 1; !await TryReadAsync(part, round, limit).ConfigureAwait(false); round++)
                {
                    _file.ThrowIfChanged();
                }
            },
            () => part.Done > 0, cancellationToken).ConfigureAwait(false);
        return part.Done;
    }

    /// <summary>Reads the whole file, for servers that send nothing else.</summary>
    /// <param name="put">Takes the bytes, in order.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>False when a broken connection could not be told from the end of the file.</returns>
    public async Task<bool> DownloadAsync(Action<long, ReadOnlyMemory<byte>> put, CancellationToken cancellationToken)
    {
        bool isSure = false;
        await RunAsync(
            async limit =>
            {
                HttpPlace place = Volatile.Read(ref _target);
                using HttpResponseMessage response = await SendAsync(place, null, null, limit).ConfigureAwait(false);
                var reply = new HttpReply(response, place);
                if (reply.Status != 200)
                {
                    throw Judge(reply);
                }

                reply.CheckEncoding();
                if (_file.Version!.DifferenceTo(KnownLength(reply.BodyLength), reply.Tag, reply.Modified) is { } why)
                {
                    throw _file.Changed(why);
                }

                isSure = reply.BodyLength is not null || response.Headers.TransferEncodingChunked == true;
                await CopyAsync(response, put, limit).ConfigureAwait(false);
            },
            () => false, cancellationToken).ConfigureAwait(false);
        return isSure;
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
    public ValueTask CloseAsync()
    {
        if (Interlocked.Exchange(ref _isClosed, 1) == 0)
        {
            _client.Dispose();
        }

        return default;
    }

    private long? KnownLength(long? told) => _file.Version!.Length < 0 ? null : told;

    private void Accept(HttpProbe probe)
    {
        _file.Accept(probe.Version);
        _file.Target = probe.Place;
        Volatile.Write(ref _target, probe.Place);
        HasRanges = probe.HasRanges;
    }

    /// <summary>Runs a request in its turn, and sorts out how it failed.</summary>
    private async Task RunAsync(
        Func<ProgressLimit, Task> request, Func<bool> hasResult, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _outstanding);
        using var limit = new ProgressLimit(_timeout, cancellationToken, _abort.Token);
        bool hasSlot = false;
        try
        {
            await _slots.WaitAsync(limit.Token).ConfigureAwait(false);
            hasSlot = true;
            await request(limit).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            if (!hasResult())
            {
                throw new LossException(_ended.Task.IsCompletedSuccessfully ? await Ended.ConfigureAwait(false) : Silent());
            }
        }
        catch (Exception e) when (IsNetwork(e) && !cancellationToken.IsCancellationRequested)
        {
            if (!hasResult())
            {
                BlockException reason = _settings.Explain(e, Volatile.Read(ref _target));
                throw reason.Kind is BlockErrorKind.InvalidData or BlockErrorKind.PermissionDenied
                    ? reason : new LossException(reason);
            }
        }
        finally
        {
            if (hasSlot)
            {
                _slots.Release();
            }

            Interlocked.Decrement(ref _outstanding);
        }

        cancellationToken.ThrowIfCancellationRequested();
    }

    private static bool IsNetwork(Exception e) => e is HttpRequestException || NetworkErrors.IsNetwork(e);

    private BlockException Silent() => new(
        BlockErrorKind.TimedOut, $"{Volatile.Read(ref _target).Peer} did not answer for {_timeout.TotalSeconds:0.#} s");

    /// <summary>False: the same is to be asked once more.</summary>
    private async Task<bool> TryReadAsync(Part part, int round, ProgressLimit limit)
    {
        HttpPlace place = Volatile.Read(ref _target);
        string? condition = _file.UsesIfRange ? _file.Version!.IfRange : null;
        long last = part.Offset + part.Buffer.Length - 1;
        using (HttpResponseMessage response = await SendAsync(place, (part.Offset, last), condition, limit).ConfigureAwait(false))
        {
            var reply = new HttpReply(response, place);
            if (reply.Status == 206)
            {
                await TakeAsync(response, reply, part, limit).ConfigureAwait(false);
                return true;
            }

            if (reply.Status == 200 && condition is not null
                && _file.Version!.DifferenceTo(reply.BodyLength, reply.Tag, reply.Modified) is null)
            {
                _file.UsesIfRange = false;
                return false;
            }

            if (round > 2 || !IsOutdated(reply, place))
            {
                throw Judge(reply);
            }
        }

        await ResolveAgainAsync(place, limit).ConfigureAwait(false);
        return false;
    }

    /// <summary>True when an answer says that the place is not the right one any more, and another may be.</summary>
    private bool IsOutdated(HttpReply reply, HttpPlace place) =>
        reply.IsRedirect || (place != _file.Origin && reply.Status is 400 or 401 or 403 or 404 or 410);

    private async Task ResolveAgainAsync(HttpPlace outdated, ProgressLimit limit)
    {
        await _resolving.WaitAsync(limit.Token).ConfigureAwait(false);
        try
        {
            if (Volatile.Read(ref _target) == outdated)
            {
                Accept(await FindAsync(_file.Origin, limit).ConfigureAwait(false));
            }
        }
        finally
        {
            _resolving.Release();
        }
    }

    /// <summary>Checks what a 206 says of itself, and takes its bytes.</summary>
    private async Task TakeAsync(HttpResponseMessage response, HttpReply reply, Part part, ProgressLimit limit)
    {
        (long first, long last, long? total) = reply.Range();
        if (_file.Version!.DifferenceTo(total, reply.Tag, reply.Modified) is { } why)
        {
            throw _file.Changed(why);
        }

        if (first != part.Offset || last - first >= part.Buffer.Length)
        {
            throw reply.Invalid(
                "sent another part than was asked for",
                $"{first}-{last} for {part.Offset}-{part.Offset + part.Buffer.Length - 1}");
        }

        Memory<byte> rest = part.Buffer[..(int)(last - first + 1)];
        Stream body = await response.Content.ReadAsStreamAsync(limit.Token).ConfigureAwait(false);
        while (!rest.IsEmpty)
        {
            int count = await body.ReadAsync(rest, limit.Token).ConfigureAwait(false);
            if (count == 0)
            {
                throw new IOException("the answer ended too early");
            }

            Moved(limit);
            part.Done += count;
            rest = rest[count..];
        }

        if (reply.BodyLength is null && await body.ReadAsync(new byte[1], limit.Token).ConfigureAwait(false) != 0)
        {
            throw reply.Invalid("sent more bytes than it had announced");
        }
    }

    private async Task CopyAsync(HttpResponseMessage response, Action<long, ReadOnlyMemory<byte>> put, ProgressLimit limit)
    {
        Stream body = await response.Content.ReadAsStreamAsync(limit.Token).ConfigureAwait(false);
        var buffer = new byte[256 << 10];
        long at = 0;
        while (await body.ReadAsync(buffer, limit.Token).ConfigureAwait(false) is > 0 and var count)
        {
            Moved(limit);
            put(at, buffer.AsMemory(0, count));
            at += count;
        }

        if (_file.Version!.Length >= 0 && at != _file.Version.Length)
        {
            throw new IOException("the answer ended too early");
        }
    }

    /// <summary>What to throw for an answer without the bytes.</summary>
    private Exception Judge(HttpReply reply)
    {
        if (reply.Status is 200 or 416)
        {
            long? length = reply.Status == 200 ? KnownLength(reply.BodyLength) : reply.LengthOfUnsatisfied();
            return _file.Version!.DifferenceTo(length, reply.Tag, reply.Modified) is { } why ? _file.Changed(why)
                : reply.Status == 200 ? NoRanges(_file.Origin)
                : reply.Invalid("says that a part lies outside the file, and it does not");
        }

        BlockException refusal = reply.IsRedirect ? reply.Invalid("redirects again and again") : reply.Refusal();
        return reply.IsTemporary ? new LossException(refusal) { IsAnswer = true, Pause = reply.RetryAfter } : refusal;
    }

    /// <summary>For a server without parts.</summary>
    public static BlockException NoRanges(HttpPlace place) => BlockException.Unsupported(
        $"{place.Shown}: the server does not send parts of the file (ranges), or does not say how long it is",
        "With --spool (or the option spool=on), all of it is read to a temporary file first.");

    /// <summary><see cref="FindAsync"/> with all that can go wrong as BlockException.</summary>
    private async Task<HttpProbe> AskAsync(HttpPlace place, CancellationToken cancellationToken)
    {
        using var limit = new ProgressLimit(_timeout, cancellationToken, _abort.Token);
        try
        {
            return await FindAsync(place, limit).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw Silent();
        }
        catch (Exception e) when (IsNetwork(e))
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw _settings.Explain(e, Volatile.Read(ref _target));
        }
    }

    /// <summary>
    /// Follows redirections and asks for the first byte: unlike HEAD, that works everywhere, and shows whether parts are sent.
    /// </summary>
    private async Task<HttpProbe> FindAsync(HttpPlace place, ProgressLimit limit)
    {
        for (int i = 0; i <= MaxRedirects; i++)
        {
            Volatile.Write(ref _target, place); // For messages, if this fails.
            using HttpResponseMessage response = await SendAsync(place, (0, 0), null, limit).ConfigureAwait(false);
            var reply = new HttpReply(response, place);
            if (reply.IsRedirect)
            {
                place = reply.Follow();
                continue;
            }

            switch (reply.Status)
            {
                case 206:
                    (long first, long last, long? total) = reply.Range();
                    return first == 0 && last == 0
                        ? new HttpProbe(place, Version(total, reply), total is not null)
                        : throw reply.Invalid("sent another part than was asked for", $"{first}-{last} for 0-0");
                case 200:
                    reply.CheckEncoding();
                    return new HttpProbe(place, Version(reply.BodyLength, reply), reply.BodyLength == 0);
                case 416 when reply.LengthOfUnsatisfied() == 0:
                    return new HttpProbe(place, Version(0, reply), true);
                default:
                    throw reply.Refusal();
            }
        }

        throw new BlockException(BlockErrorKind.InvalidData, $"{_file.Origin.Shown}: the server redirects again and again")
        {
            Expected = $"at most {MaxRedirects} times",
        };
    }

    private static HttpFileVersion Version(long? length, HttpReply reply) => new(length ?? -1, reply.Tag, reply.Modified);

    private async Task<HttpResponseMessage> SendAsync(
        HttpPlace place, (long First, long Last)? range, string? condition, ProgressLimit limit)
    {
        var request = new HttpRequestMessage(HttpMethod.Get, place.Uri);
        HttpRequestHeaders headers = request.Headers;
        headers.TryAddWithoutValidation("User-Agent", "imgmount");
        headers.TryAddWithoutValidation("Accept-Encoding", "identity");
        if (range is { } part)
        {
            headers.Range = new RangeHeaderValue(part.First, part.Last);
        }

        if (condition is not null)
        {
            headers.TryAddWithoutValidation("If-Range", condition);
        }

        if (_settings.Cookie is { } cookie && place.Origin == _file.Origin.Origin)
        {
            headers.TryAddWithoutValidation("Cookie", cookie);
        }

        limit.Renew();
        long sent = Stopwatch.GetTimestamp();
        HttpResponseMessage response = await _client.SendAsync(request, limit.Token).ConfigureAwait(false);
        _file.Times.Add(sent);
        Moved(limit);
        return response;
    }

    private void Moved(ProgressLimit limit)
    {
        Interlocked.Increment(ref _progress);
        limit.Renew();
    }

    /// <summary>What is asked for, and how much of it has come.</summary>
    private sealed class Part(long offset, Memory<byte> buffer)
    {
        public long Offset { get; } = offset;

        public Memory<byte> Buffer { get; } = buffer;

        public int Done { get; set; }
    }
}
