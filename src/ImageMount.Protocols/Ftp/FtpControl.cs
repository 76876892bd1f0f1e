using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ftp;

/// <summary>
/// A control connection: commands and replies, one after the other. Logged in when it is made. RFC 959; features by RFC 2389
/// and 3659, addresses of data connections by RFC 2428, TLS by RFC 4217.
/// </summary>
internal sealed class FtpControl : IAsyncDisposable
{
    private const int MaxLine = 8192;
    private const int MaxLines = 1000;

    private readonly FtpTarget _target;
    private readonly IPAddress _server;
    private readonly SslClientAuthenticationOptions? _tls;
    private readonly byte[] _buffer = new byte[4096];
    private readonly HashSet<string> _features = new(StringComparer.OrdinalIgnoreCase);
    private Stream _stream;
    private int _at;
    private int _end;
    private bool _usesPasv;
    private bool _isNew = true;

    private FtpControl(FtpTarget target, NetworkStream stream, int lane)
    {
        _tls = target.MakeTlsOptions(lane);
        _target = target;
        _stream = stream;
        _server = ((IPEndPoint)stream.Socket.RemoteEndPoint!).Address;
    }

    /// <summary>True when exact ranges can be asked for (draft-bryan-ftp-range).</summary>
    public bool HasRange => _features.Contains("RANG STREAM");

    /// <summary>True when transfers can begin in the middle of a file.</summary>
    public bool CanRestart { get; private set; }

    /// <summary>Connects and logs in.</summary>
    /// <param name="target">The server.</param>
    /// <param name="lane">Number of the channel; no two at once have the same.</param>
    /// <param name="limit">Of the request.</param>
    public static async Task<FtpControl> ConnectAsync(FtpTarget target, int lane, ProgressLimit limit)
    {
        limit.Renew();
        NetworkStream socket = await target.ConnectAsync(null, limit.Token).ConfigureAwait(false);
        var control = new FtpControl(target, socket, lane);
        try
        {
            await control.GreetAsync(limit).ConfigureAwait(false);
            await control.LogInAsync(limit).ConfigureAwait(false);
            control._isNew = false; // From here on, 421 means that we were away for too long, not that we are too many.
            return control;
        }
        catch
        {
            await control.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Sends a command and gives the reply.</summary>
    /// <param name="command">Without line end.</param>
    /// <param name="limit">Of the request.</param>
    public async Task<FtpReply> AskAsync(string command, ProgressLimit limit)
    {
        await _stream.WriteAsync(Encoding.UTF8.GetBytes(command + "\r\n"), limit.Token).ConfigureAwait(false);
        return await ReadReplyAsync(limit).ConfigureAwait(false);
    }

    /// <summary>The next reply.</summary>
    public async Task<FtpReply> ReadReplyAsync(ProgressLimit limit)
    {
        var lines = new List<string>();
        int code = 0;
        while (true)
        {
            string line = await ReadLineAsync(limit).ConfigureAwait(false);
            bool hasCode = line.Length >= 3
                && int.TryParse(line.AsSpan(0, 3), NumberStyles.None, CultureInfo.InvariantCulture, out int number)
                && number is >= 100 and < 600 && (code == 0 || number == code);
            if (code == 0)
            {
                code = hasCode && (line.Length == 3 || line[3] is ' ' or '-')
                    ? int.Parse(line.AsSpan(0, 3), CultureInfo.InvariantCulture)
                    : throw new BlockException(BlockErrorKind.InvalidData, $"{_target.Peer} does not speak FTP");
                hasCode = true;
            }

            bool isLast = hasCode && (line.Length == 3 || line[3] == ' ');
            lines.Add(hasCode && line.Length > 4 ? line[4..] : line);
            if (isLast)
            {
                limit.Renew();
                return code == 421
                    ? throw new LossException(new FtpReply(code, lines).Refusal(_target, "to go on")) { IsAnswer = _isNew }
                    : new FtpReply(code, lines);
            }

            if (lines.Count > MaxLines)
            {
                throw BlockException.Limit($"{_target.Peer}: a reply has too many lines", lines.Count, MaxLines);
            }
        }
    }

    /// <summary>Opens a data connection; it is not secure yet, because servers begin with that after the command.</summary>
    public async Task<NetworkStream> OpenDataAsync(ProgressLimit limit)
    {
        int port = 0;
        if (!_usesPasv)
        {
            FtpReply reply = await AskAsync("EPSV", limit).ConfigureAwait(false);
            _usesPasv = !reply.IsDone;
            port = _usesPasv ? 0 : PortOfEpsv(reply.Text) ?? throw Invalid("told no port for data", reply);
        }

        if (_usesPasv)
        {
            FtpReply reply = await AskAsync("PASV", limit).ConfigureAwait(false);
            port = !reply.IsDone ? throw Sort(reply, "to open a data connection")
                : PortOfPasv(reply.Text) ?? throw Invalid("told no port for data", reply);
        }

        // The address in a reply to PASV is often wrong (behind NAT), and could point anywhere.
        return await _target.ConnectAsync(RemoteAddress.Tcp(_server.ToString(), port), limit.Token).ConfigureAwait(false);
    }

    /// <summary>Makes a data connection secure, in the session of this connection.</summary>
    public Task<Stream> SecureDataAsync(Stream data, ProgressLimit limit) => _target.SecureAsync(data, _tls!, limit.Token);

    /// <summary>Length and time of the file.</summary>
    public async Task<(long Length, string? Modified)> LookAsync(ProgressLimit limit)
    {
        FtpReply size = await AskAsync($"SIZE {_target.Path}", limit).ConfigureAwait(false);
        bool isKnown = size.IsDone & long.TryParse(
            size.Text.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long length);
        if (isKnown)
        {
            FtpReply time = await AskAsync($"MDTM {_target.Path}", limit).ConfigureAwait(false);
            return (length, time.IsDone ? time.Text.Trim() : null);
        }

        if (size.Code == 550 || size.Code is >= 400 and < 500)
        {
            throw Sort(size, "to tell its size");
        }

        FtpReply facts = await AskAsync($"MLST {_target.Path}", limit).ConfigureAwait(false);
        Dictionary<string, string> values = facts.IsDone ? FactsOf(facts) : [];
        return values.TryGetValue("size", out string? text)
            && long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out length)
                ? (length, values.GetValueOrDefault("modify"))
                : throw BlockException.Unsupported($"{_target.Shown}: the server does not tell how long the file is (SIZE, MLST)");
    }

    /// <summary>A refusal: to be told, or, when it says "later", to be tried again.</summary>
    public Exception Sort(FtpReply reply, string what)
    {
        BlockException refusal = reply.Refusal(_target, what);
        return reply.Code is >= 400 and < 500 && reply.Code != 430
            ? new LossException(refusal) { IsAnswer = true } : refusal;
    }

    /// <summary>A reply that makes no sense.</summary>
    public BlockException Invalid(string what, FtpReply reply) =>
        new(BlockErrorKind.InvalidData, $"{_target.Peer}: the server {what}") { Found = $"reply {reply.Code}" };

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _stream.DisposeAsync();

    /// <summary>RFC 2428, section 3: (|||port|), with any delimiter.</summary>
    internal static int? PortOfEpsv(string text)
    {
        int open = text.IndexOf('(');
        if (open < 0 || text.Length < open + 6)
        {
            return null;
        }

        char mark = text[open + 1];
        string[] parts = text[(open + 1)..].Split(mark);
        return parts.Length >= 5 && int.TryParse(parts[3], NumberStyles.None, CultureInfo.InvariantCulture, out int port)
            && port is > 0 and < 65536 ? port : null;
    }

    /// <summary>RFC 959: h1,h2,h3,h4,p1,p2 somewhere in the text, with or without parentheses.</summary>
    internal static int? PortOfPasv(string text)
    {
        int start = text.AsSpan().IndexOfAnyInRange('0', '9');
        string[] parts = start < 0 ? [] : text[start..].TrimEnd('.', ' ').TrimEnd(')').Split(',');
        if (parts.Length != 6)
        {
            return null;
        }

        var numbers = new int[6];
        for (int i = 0; i < 6; i++)
        {
            if (!int.TryParse(parts[i].Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out numbers[i]) || numbers[i] > 255)
            {
                return null;
            }
        }

        int port = (numbers[4] * 256) + numbers[5];
        return port > 0 ? port : null;
    }

    /// <summary>RFC 3659, section 7: "Size=1;Modify=2; name".</summary>
    private static Dictionary<string, string> FactsOf(FtpReply reply)
    {
        var values = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (string part in reply.Lines.Skip(1).Select(line => line.Trim()).FirstOrDefault(
            line => line.Contains(';'))?.Split(';') ?? [])
        {
            int equals = part.IndexOf('=');
            if (equals > 0)
            {
                values[part[..equals]] = part[(equals + 1)..];
            }
        }

        return values;
    }

    private async Task GreetAsync(ProgressLimit limit)
    {
        if (_target.Tls == FtpTlsMode.Implicit)
        {
            _stream = await _target.SecureAsync(_stream, _tls!, limit.Token).ConfigureAwait(false);
        }

        FtpReply greeting = await ReadReplyAsync(limit).ConfigureAwait(false);
        while (greeting.Code == 120)
        {
            greeting = await ReadReplyAsync(limit).ConfigureAwait(false);
        }

        Require(greeting, "to serve us");
        if (_target.Tls == FtpTlsMode.Explicit)
        {
            FtpReply reply = await AskAsync("AUTH TLS", limit).ConfigureAwait(false);
            if (!reply.IsDone)
            {
                throw new BlockException(BlockErrorKind.NotSupported, $"{_target.Peer}: the server offers no TLS")
                {
                    Found = $"reply {reply.Code} to AUTH TLS",
                };
            }

            // Bytes that came before the handshake are not the server's, or not meant for now.
            _stream = _at == _end ? await _target.SecureAsync(_stream, _tls!, limit.Token).ConfigureAwait(false)
                : throw new BlockException(BlockErrorKind.InvalidData, $"{_target.Peer}: something was sent before TLS began");
        }
    }

    private async Task LogInAsync(ProgressLimit limit)
    {
        FtpReply reply = await AskAsync($"USER {_target.Login.User}", limit).ConfigureAwait(false);
        if (reply.Code == 331)
        {
            reply = await AskAsync($"PASS {_target.Login.Password}", limit).ConfigureAwait(false);
        }

        Require(reply, "to log us in");
        if (_target.Tls != FtpTlsMode.Off)
        {
            await AskAsync("PBSZ 0", limit).ConfigureAwait(false);
            Require(await AskAsync("PROT P", limit).ConfigureAwait(false), "to make data connections secure");
        }

        Require(await AskAsync("TYPE I", limit).ConfigureAwait(false), "binary transfers");
        FtpReply features = await AskAsync("FEAT", limit).ConfigureAwait(false);
        if (features.IsDone)
        {
            _features.UnionWith(features.Lines.Select(line => line.Trim()));
        }

        if (_features.Contains("UTF8"))
        {
            await AskAsync("OPTS UTF8 ON", limit).ConfigureAwait(false);
        }

        CanRestart = HasRange || (await AskAsync("REST 0", limit).ConfigureAwait(false)).IsMore;
    }

    private void Require(FtpReply reply, string what)
    {
        if (!reply.IsDone)
        {
            throw Sort(reply, what);
        }
    }

    private async Task<string> ReadLineAsync(ProgressLimit limit)
    {
        var line = new List<byte>();
        while (true)
        {
            int length = _buffer.AsSpan(_at, _end - _at).IndexOf((byte)'\n');
            line.AddRange(_buffer.AsSpan(_at, length < 0 ? _end - _at : length));
            if (line.Count > MaxLine)
            {
                throw BlockException.Limit($"{_target.Peer}: a line of a reply is too long", line.Count, MaxLine);
            }

            if (length >= 0)
            {
                _at += length + 1;
                return Encoding.UTF8.GetString([.. line]).TrimEnd('\r');
            }

            _at = 0;
            _end = 0;
            _end = await _stream.ReadAsync(_buffer, limit.Token).ConfigureAwait(false);
            if (_end == 0)
            {
                throw new LossException(NetworkErrors.Closed(_target.Peer));
            }

            limit.Renew();
        }
    }
}
