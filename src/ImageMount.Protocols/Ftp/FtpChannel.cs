using System.Net.Sockets;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ftp;

/// <summary>
/// A control connection and at most one transfer on it. Where the server knows RANG, a transfer is exactly what was asked
/// for; else it goes on to the end of the file, and whoever reads on where it stands reads on. One caller at a time; after
/// any exception it is of no use any more.
/// </summary>
internal sealed class FtpChannel : IAsyncDisposable
{
    /// <summary>Reading over so much is quicker than a new transfer.</summary>
    private const int MaxSkip = 256 << 10;

    private static readonly TimeSpan s_lookAgain = TimeSpan.FromSeconds(1);

    private readonly FtpTarget _target;
    private readonly FtpFile _file;
    private readonly FtpControl _control;
    private readonly TimeProvider _clock;
    private Stream? _data;
    private long _position;
    private long _end;
    private long _looked;

    private FtpChannel(FtpTarget target, FtpFile file, FtpControl control, TimeProvider clock)
    {
        _target = target;
        _file = file;
        _control = control;
        _clock = clock;
    }

    /// <summary>True when exact ranges can be asked for.</summary>
    public bool HasRange => _control.HasRange;

    /// <summary>True when transfers can begin anywhere.</summary>
    public bool CanRestart => _control.CanRestart;

    /// <summary>Connects, logs in, and looks at the file.</summary>
    public static async Task<FtpChannel> ConnectAsync(
        FtpTarget target, FtpFile file, int lane, TimeProvider clock, ProgressLimit limit)
    {
        FtpControl control = await FtpControl.ConnectAsync(target, lane, limit).ConfigureAwait(false);
        var channel = new FtpChannel(target, file, control, clock);
        try
        {
            await channel.LookAsync(limit).ConfigureAwait(false);
            return channel;
        }
        catch
        {
            await channel.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>True when a read there goes on with the transfer that is under way.</summary>
    public bool GoesOn(long offset, int count) =>
        _data is not null && offset >= _position && offset - _position <= MaxSkip && offset + count <= _end;

    /// <summary>
    /// Ends the transfer under way, if there is one, before its end. False: the server did not bear that.
    /// </summary>
    public async Task<bool> TryStopAsync(ProgressLimit limit)
    {
        if (_data is null)
        {
            return true;
        }

        if (_target.Tls != FtpTlsMode.Off)
        {
            return false; // Many servers take a TLS connection that ends early for an attack, and hang up.
        }

        try
        {
            await _data.DisposeAsync().ConfigureAwait(false);
            _data = null;
            await _control.ReadReplyAsync(limit).ConfigureAwait(false); // 426, 226 or 451: all the same now.
            return true;
        }
        catch (Exception e) when (e is LossException || NetworkErrors.IsNetwork(e))
        {
            return false;
        }
    }

    /// <summary>Reads. <see cref="GoesOn"/>, or no transfer is under way.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="buffer">Filled.</param>
    /// <param name="moved">Called whenever bytes came.</param>
    /// <param name="limit">Of the request.</param>
    public async Task ReadAsync(long offset, Memory<byte> buffer, Action moved, ProgressLimit limit)
    {
        if (_data is null)
        {
            await StartAsync(offset, buffer.Length, limit).ConfigureAwait(false);
        }

        var skipped = new byte[(int)Math.Min(offset - _position, 64 << 10)];
        while (_position < offset)
        {
            int most = (int)Math.Min(offset - _position, skipped.Length);
            await TakeAsync(skipped.AsMemory(0, most), limit).ConfigureAwait(false);
        }

        while (!buffer.IsEmpty)
        {
            int count = await TakeAsync(buffer, limit).ConfigureAwait(false);
            moved();
            buffer = buffer[count..];
        }

        if (_position == _end)
        {
            await FinishAsync(limit).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_data is not null)
        {
            await _data.DisposeAsync().ConfigureAwait(false);
            _data = null;
        }

        await _control.DisposeAsync().ConfigureAwait(false);
    }

    private async Task LookAsync(ProgressLimit limit)
    {
        (long length, string? modified) = await _control.LookAsync(limit).ConfigureAwait(false);
        _file.Accept(length, modified);
        _looked = _clock.GetTimestamp();
    }

    private async Task StartAsync(long offset, int count, ProgressLimit limit)
    {
        if (_clock.GetElapsedTime(_looked) > s_lookAgain)
        {
            await LookAsync(limit).ConfigureAwait(false);
        }

        NetworkStream socket = await _control.OpenDataAsync(limit).ConfigureAwait(false);
        _data = socket;
        if (HasRange)
        {
            await RequireMoreAsync(FormattableString.Invariant($"RANG {offset} {offset + count - 1}"), limit)
                .ConfigureAwait(false);
        }
        else if (offset > 0)
        {
            await RequireMoreAsync(FormattableString.Invariant($"REST {offset}"), limit).ConfigureAwait(false);
        }

        FtpReply reply = await _control.AskAsync($"RETR {_target.Path}", limit).ConfigureAwait(false);
        if (!reply.IsPreliminary)
        {
            throw reply.IsDone ? _control.Invalid("says that a transfer has ended before it began", reply)
                : _control.Sort(reply, "the transfer");
        }

        if (_target.Tls != FtpTlsMode.Off)
        {
            _data = await _control.SecureDataAsync(socket, limit).ConfigureAwait(false);
        }

        _position = offset;
        _end = HasRange ? offset + count : _file.Length;
    }

    private async Task RequireMoreAsync(string command, ProgressLimit limit)
    {
        FtpReply reply = await _control.AskAsync(command, limit).ConfigureAwait(false);
        if (!reply.IsMore)
        {
            throw reply.IsDone ? _control.Invalid("gives a wrong reply", reply)
                : _control.Sort(reply, "to begin in the middle of the file");
        }
    }

    private async Task<int> TakeAsync(Memory<byte> buffer, ProgressLimit limit)
    {
        int count = await _data!.ReadAsync(buffer, limit.Token).ConfigureAwait(false);
        if (count == 0)
        {
            // The end of the data says nothing; the reply says whether that was all.
            FtpReply reply = await _control.ReadReplyAsync(limit).ConfigureAwait(false);
            throw reply.IsDone ? _file.Changed("it has become shorter") : new LossException(reply.Refusal(_target, "the transfer"));
        }

        limit.Renew();
        _position += count;
        return count;
    }

    private async Task FinishAsync(ProgressLimit limit)
    {
        if (await _data!.ReadAsync(new byte[1], limit.Token).ConfigureAwait(false) != 0)
        {
            throw HasRange
                ? new BlockException(BlockErrorKind.InvalidData, $"{_target.Shown}: the server sent more than was asked for")
                : _file.Changed("it has become longer");
        }

        await _data.DisposeAsync().ConfigureAwait(false);
        _data = null;
        FtpReply reply = await _control.ReadReplyAsync(limit).ConfigureAwait(false);
        if (!reply.IsDone)
        {
            throw new LossException(reply.Refusal(_target, "the transfer"));
        }
    }
}
