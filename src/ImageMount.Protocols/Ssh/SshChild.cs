using System.ComponentModel;
using System.Diagnostics;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Interop;
using ImageMount.Protocols.Remote;

namespace ImageMount.Protocols.Ssh;

/// <summary>
/// The program ssh with the subsystem "sftp": its input and output are the connection, its error output says why it ended.
/// It has a session of its own, so that the terminal's Ctrl-C does not reach it, and ends with its input, so that it does
/// not outlive us whatever ends us.
/// </summary>
internal sealed class SshChild : SftpTransport
{
    private const int MaxLines = 40;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    private readonly Process _process;
    private readonly string _peer;
    private readonly bool _isByDigest;
    private readonly List<string> _lines = [];
    private readonly Stream _errors;
    private readonly Task _reading;

    /// <summary>Awaited by who closes and by who aborts, of whom the last gives the process up: so it is begun once.</summary>
    private readonly Task _exit;
    private readonly Lock _lock = new();
    private bool _isAborted;

    private SshChild(Process process, string peer, bool isByDigest)
    {
        _process = process;
        _peer = peer;
        _isByDigest = isByDigest;
        Input = process.StandardOutput.BaseStream;
        Output = process.StandardInput.BaseStream;
        _errors = process.StandardError.BaseStream;
        _reading = ReadErrorsAsync();
        _exit = process.WaitForExitAsync();
    }

    /// <inheritdoc/>
    public override Stream Input { get; }

    /// <inheritdoc/>
    public override Stream Output { get; }

    /// <summary>Starts ssh.</summary>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="environment">Variables to set.</param>
    /// <param name="peer">What messages call the server.</param>
    /// <param name="isByDigest">True when the host key is compared with a digest.</param>
    public static SshChild Start(
        IEnumerable<string> arguments, IEnumerable<(string Name, string Value)> environment, string peer, bool isByDigest)
    {
        string ssh = Find("ssh") ?? throw new BlockException(BlockErrorKind.NotFound, "the program ssh is not there")
        {
            Hint = "Install the package openssh-client.",
        };
        string? setsid = Find("setsid");
        var start = new ProcessStartInfo(setsid ?? ssh)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        foreach (string argument in setsid is null ? arguments : arguments.Prepend(ssh))
        {
            start.ArgumentList.Add(argument);
        }

        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        try
        {
            return new SshChild(Process.Start(start)!, peer, isByDigest);
        }
        catch (Win32Exception e)
        {
            throw new BlockException(BlockErrorKind.IoError, $"cannot start {ssh}: {e.Message}", e);
        }
    }

    /// <inheritdoc/>
    public override void Abort()
    {
        lock (_lock)
        {
            if (_isAborted)
            {
                return;
            }

            _isAborted = true;
        }

        _ = AbortAsync();
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        try
        {
            await Output.DisposeAsync().ConfigureAwait(false);
            await _exit.WaitAsync(Patience).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or TimeoutException)
        {
            Abort(); // It was gone already, or does not go by itself.
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<BlockException> ExplainAsync(BlockException reason)
    {
        // Not longer: a program that ssh left behind may hold its error output open.
        await Task.WhenAny(_reading, Task.Delay(Patience)).ConfigureAwait(false);
        lock (_lines)
        {
            return SshMessages.Translate([.. _lines], _peer, _isByDigest, reason);
        }
    }

    private static string? Find(string name) => (Environment.GetEnvironmentVariable("PATH") ?? "/usr/bin:/bin").Split(':')
        .Where(folder => folder.StartsWith('/'))
        .Select(folder => Path.Combine(folder, name))
        .FirstOrDefault(File.Exists);

    /// <summary>Kills ssh and what it started; nothing of it waits, even where it is stopped.</summary>
    private async Task AbortAsync()
    {
        if (!_exit.IsCompleted)
        {
            // In its own session it leads a group, with its ProxyCommand or ProxyJump. Without setsid there is no such group.
            SysKillGroup.Kill(_process.Id);
            _process.Kill();
        }

        await Input.DisposeAsync().ConfigureAwait(false);
        await Output.DisposeAsync().ConfigureAwait(false);
        await _exit.ConfigureAwait(false);
        await Task.WhenAny(_reading, Task.Delay(Patience)).ConfigureAwait(false);
        _process.Dispose();
    }

    private async Task ReadErrorsAsync()
    {
        try
        {
            using var reader = new StreamReader(_errors, Encoding.UTF8);
            while (await reader.ReadLineAsync().ConfigureAwait(false) is { } line)
            {
                string? clean = PeerText.Clean(Encoding.UTF8.GetBytes(line));
                lock (_lines)
                {
                    if (clean is not null && _lines.Count == MaxLines)
                    {
                        _lines.RemoveAt(0);
                    }

                    if (clean is not null)
                    {
                        _lines.Add(clean);
                    }
                }
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or OperationCanceledException)
        {
            lock (_lines)
            {
                _lines.Add($"its error output is broken: {e.Message}");
            }
        }
    }
}
