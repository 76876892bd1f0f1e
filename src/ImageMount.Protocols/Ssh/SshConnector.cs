using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Secrets;

namespace ImageMount.Protocols.Ssh;

/// <summary>Makes connections to the server that the options name.</summary>
internal sealed class SshConnector
{
    private readonly SshOptions _options;
    private readonly SshHostKey _hostKey;
    private readonly Secret? _password;
    private readonly Secret? _passphrase;
    private Exception? _whyNoMore;

    /// <summary>Checks the options; nothing is started yet.</summary>
    /// <param name="options">Options.</param>
    /// <param name="secrets">Has the secrets that they name.</param>
    public SshConnector(SshOptions options, SecretStore secrets)
    {
        SshUri.Check(options);
        _options = options;
        _hostKey = SshHostKey.Of(options);
        if (options.IdentitySecret is not null && options.Identity is null)
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "'identity-secret' is given without 'identity'");
        }

        if (options.Identity is { } identity && !File.Exists(identity))
        {
            throw new BlockException(BlockErrorKind.NotFound, "there is no such key file") { Found = $"identity={identity}" };
        }

        _password = options.PasswordSecret is { } password ? secrets.Get(password) : null;
        _passphrase = options.IdentitySecret is { } passphrase ? secrets.Get(passphrase) : null;
    }

    /// <summary>What messages call the server.</summary>
    public string Peer => SshUri.Server(_options);

    /// <summary>True when the host key is not checked.</summary>
    public bool TrustsAnybody => _hostKey.Mode == SshHostKeyMode.None;

    /// <summary>Path of the file.</summary>
    public string Path => _options.Path!;

    /// <summary>Why another connection could not be made; null when none failed.</summary>
    public string? WhyNoMore => _whyNoMore?.Message;

    /// <summary>Makes a transport; replaced by tests.</summary>
    public Func<SftpTransport>? Transport { get; init; }

    /// <summary>Connects and greets.</summary>
    public async Task<SftpConnection> ConnectAsync(CancellationToken cancellationToken)
    {
        using SshAskpass? askpass = _password is null && _passphrase is null
            ? null : SshAskpass.Make(_password, _options.Identity, _passphrase);
        SftpTransport transport = Transport?.Invoke() ?? SshChild.Start(
            Arguments(askpass is not null),
            askpass is null ? [] : [("SSH_ASKPASS", askpass.Program), ("SSH_ASKPASS_REQUIRE", "force")],
            Peer, _hostKey.Mode == SshHostKeyMode.Hash);
        var connection = new SftpConnection(transport, Peer);
        try
        {
            await connection.StartAsync(cancellationToken).ConfigureAwait(false);
            return connection;
        }
        catch
        {
            connection.End(new BlockException(BlockErrorKind.Cancelled, "the connection is not wanted"));
            throw;
        }
    }

    /// <summary>Connects and opens the file.</summary>
    public async Task<SftpFile> OpenAsync(bool writable, CancellationToken cancellationToken)
    {
        SftpConnection connection = await ConnectAsync(cancellationToken).ConfigureAwait(false);
        var cancelled = new BlockException(BlockErrorKind.Cancelled, "the connection is not wanted");
        try
        {
            using (cancellationToken.UnsafeRegister(_ => connection.End(cancelled), null))
            {
                return await SftpFile.OpenAsync(connection, Path, writable).ConfigureAwait(false);
            }
        }
        catch (BlockException) when (cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellationToken);
        }
        catch
        {
            connection.End(cancelled);
            throw;
        }
    }

    /// <summary>Remembers why there will be no more connections.</summary>
    public void NoMore(Exception why) => _whyNoMore = why;

    /// <summary>The arguments of ssh.</summary>
    internal IReadOnlyList<string> Arguments(bool mayAsk)
    {
        List<string> settings =
        [
            // What ssh is to do is settled here; how to reach the server is the user's own configuration.
            $"BatchMode={(mayAsk ? "no" : "yes")}", "NumberOfPasswordPrompts=1", "LogLevel=ERROR", "EscapeChar=none",
            "RequestTTY=no", "RemoteCommand=none", "PermitLocalCommand=no", "ForwardAgent=no", "ForwardX11=no",
            "ClearAllForwardings=yes", "Tunnel=no", "UpdateHostKeys=no",

            // A connection that another ssh has made was not checked by us.
            "ControlMaster=no", "ControlPath=none",
            .. _hostKey.Arguments(),
        ];
        int timeout = _options.Timeout;
        if (timeout > 0)
        {
            // So that ssh ends by itself, even where we are gone.
            settings.Add(Text("ConnectTimeout", timeout));
            settings.Add(Text("ServerAliveInterval", Math.Max(1, timeout / 2)));
            settings.Add("ServerAliveCountMax=3");
        }

        if (_options.Identity is not null)
        {
            settings.Add("IdentitiesOnly=yes");
        }

        var arguments = new List<string>();
        Add("-F", _options.Config);
        foreach (string setting in settings)
        {
            Add("-o", setting);
        }

        Add("-p", _options.Port?.ToString(CultureInfo.InvariantCulture));
        Add("-l", _options.User);
        Add("-i", _options.Identity);
        arguments.AddRange(["-s", "--", _options.Host!, "sftp"]);
        return arguments;

        void Add(string flag, string? value)
        {
            if (value is not null)
            {
                arguments.AddRange([flag, value]);
            }
        }

        static string Text(string name, int value) => $"{name}={value.ToString(CultureInfo.InvariantCulture)}";
    }
}
