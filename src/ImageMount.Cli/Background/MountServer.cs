using System.Globalization;
using ImageMount.Cli.Output;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Fuse;
using ImageMount.Fuse.Mount;
using ImageMount.Interop;
using ImageMount.Mounting;
using ImageMount.Mounting.Fuse;
using System.Runtime;
using Microsoft.Win32.SafeHandles;

namespace ImageMount.Cli.Background;

/// <summary>
/// Serves one mount from opening the image to closing it, in the foreground or as the background copy. States: prepare
/// the mount point → open → mount → note in the state directory → ready → serve → (unmounted by a signal or by anybody)
/// → flush, close, unlock → note how it ended.
/// </summary>
public sealed class MountServer
{
    private readonly MountRequest _request;
    private readonly StateDirectory _states;
    private readonly MountLog _log;
    private readonly List<string> _warnings = [];
    private MountState _state = new();
    private volatile bool _isReady;

    private MountServer(MountRequest request, StateDirectory states, bool isForeground)
    {
        _request = request;
        _states = states;
        string? file = request.LogFile ?? (isForeground ? null : states.LogFileOf(Environment.ProcessId));
        _log = new MountLog(file, isForeground, request.Debug);
    }

    /// <summary>Serves in the foreground; the answer is the exit code.</summary>
    public static async Task<int> RunInForegroundAsync(MountRequest request)
    {
        var server = new MountServer(request, StateDirectory.Default, isForeground: true);
        return await server.RunAsync(
            () => Console.Error.WriteLine(
                $"imgmount: {request.Image.Shown} is mounted at {request.MountPoint}; Ctrl-C unmounts"))
            .ConfigureAwait(false);
    }

    /// <summary>
    /// Entry of the background copy: request from standard input, one report to standard output, then no terminal, no
    /// working directory, nobody's pipe.
    /// </summary>
    public static async Task<int> RunInBackgroundAsync()
    {
        SysSetsid.Setsid();
        using var output = new FileStream(new SafeFileHandle(1, ownsHandle: false), FileAccess.Write, bufferSize: 0);
        MountServer? server = null;
        try
        {
            MountRequest request;
            using (var input = new FileStream(new SafeFileHandle(0, ownsHandle: false), FileAccess.Read, bufferSize: 0))
            {
                using var text = new WipedBuffer();
                text.ReadAll(input, CliJson.MaxRequest);
                if (text.Written.Length == 0)
                {
                    return ExitCode.Usage; // The command line was wrong, and whoever read it has said so.
                }

                request = CliJson.ReadRequest(text.Written);
            }

            server = new MountServer(request, StateDirectory.Default, isForeground: false);
            return await server.RunAsync(() =>
            {
                Say(output, new ReadyReport { IsReady = true, Warnings = server._warnings });
                StandardStreams.LetGo();
                Environment.CurrentDirectory = "/";
            }).ConfigureAwait(false);
        }
        catch (Exception e) when (server?._isReady != true)
        {
            server?._log.Dispose();
            Say(output, new ReadyReport
            {
                Error = e is CommandException or BlockException or FuseMountException
                    ? (e as BlockException)?.Describe() ?? e.Message
                    : $"{e.Message} ({e.GetType().Name}; --debug shows details)",
                NeedsPassphraseOf = server?._request.Secrets.Unanswered,
                Detail = e.ToString(),
            });
            return ExitCode.Failed;
        }
        catch (Exception e)
        {
            // Nobody listens any more; the note stays, and tells `umount` and `list` of an end that was not clean.
            server!._log.Error($"the mount ended unexpectedly: {e.Message}", e);
            server.Finish($"the process that served it ended unexpectedly: {e.Message}");
            return ExitCode.Failed;
        }
    }

    private async Task<int> RunAsync(Action ready)
    {
        MountPlace place = MountPlace.Prepare(_request.MountPoint, _states, _warnings.Add);
        Graph? graph = null;
        FuseMount mount;
        try
        {
            graph = await OpenAsync().ConfigureAwait(false);
            mount = await FuseMount.MountAsync(graph, place.Path, Options(graph)).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            await CloseQuietlyAsync(graph).ConfigureAwait(false);
            place.Restore();
            throw Explain(e);
        }

        using var stop = new StopSignals(mount, graph, _log);
        WriteState(graph, place);
        WritePidFile();
        _warnings.AddRange(graph.Warnings);
        _warnings.AddRange(mount.Tree.Partitions.Warnings.Select(w => $"{_request.Image.Shown}: {w}"));
        _log.Debug(
            $"{_request.Image.Shown} is mounted at {place.Path}; {JitInfo.GetCompiledMethodCount()} methods "
            + $"were compiled in {JitInfo.GetCompilationTime().TotalMilliseconds:0} ms");
        graph.WarningListener = message => _log.RequestWarning(message, null);
        _isReady = true;
        ready();
        string? failure = await ServeAsync(mount, graph, stop.MustEnd).ConfigureAwait(false);
        _request.Secrets.Dispose();
        place.Restore();
        Finish(failure);
        return failure is null ? ExitCode.Done : ExitCode.Failed;
    }

    private async Task<Graph> OpenAsync()
    {
        var flags = new OpenFlags
        {
            Writable = !_request.ReadOnly,
            Direct = _request.Cache.ImageIsDirect(),
            WriteThrough = _request.Cache.EveryWriteIsDurable(),
            IgnoreFlush = _request.Cache.IgnoresFlush(),
            Discard = _request.Discard,
            Secrets = _request.Secrets,
        };
        return await ImageOpening.OpenAsync(_request.Image, flags).ConfigureAwait(false);
    }

    private FuseMountOptions Options(Graph graph) => new()
    {
        Cache = _request.Cache,
        ReadOnly = _request.ReadOnly,
        Growable = _request.Growable,
        Discard = _request.Discard,
        AllowOther = _request.AllowOther,
        AllowNonEmpty = _request.NonEmpty,
        Uid = _request.Uid,
        Gid = _request.Gid,
        Mode = _request.Mode,
        FsName = graph.Location ?? _request.Image.Shown,
        Time = graph.Location is { } path && File.Exists(path)
            ? File.GetLastWriteTimeUtc(path)
            : DateTimeOffset.UtcNow,
        Transport = _request.Transport,
        Workers = _request.Threads,
        Warning = _log.RequestWarning,
    };

    /// <summary>
    /// Until the mount is gone and the image is closed. The answer is what went wrong at the end, or null.
    /// </summary>
    private async Task<string?> ServeAsync(FuseMount mount, Graph graph, Task mustEnd)
    {
        string? failure = null;
        try
        {
            _ = StopWaitingAsync(mount, graph);
            Task gone = mount.WaitAsync();
            if (await Task.WhenAny(gone, mustEnd).ConfigureAwait(false) == gone)
            {
                await gone.ConfigureAwait(false);
            }
            else
            {
                mount.CutOff(); // the end of this process cuts the connection
            }
        }
        catch (Exception e)
        {
            failure = Messages.Because("the mount ended badly", e);
            _log.Error(failure, e);
        }

        try
        {
            await graph.CloseAsync().ConfigureAwait(false);
        }
        catch (Exception e)
        {
            failure = Messages.Because($"{_request.Image.Shown} could not be flushed and closed", e);
            _log.Error(failure, e);
        }

        return failure;
    }

    /// <summary>
    /// When nobody can ask for anything any more, requests in flight must not wait for a server that does not answer.
    /// </summary>
    private static async Task StopWaitingAsync(FuseMount mount, Graph graph)
    {
        await Task.WhenAny(mount.Session.Disconnected).ConfigureAwait(false);
        graph.StopWaiting(StopSignals.PatienceWithPeers);
    }

    private void WriteState(Graph graph, MountPlace place)
    {
        _state = new MountState
        {
            Pid = Environment.ProcessId,
            StartTime = ServerProcess.StartTimeOf(Environment.ProcessId),
            Source = _request.Image.Shown,
            SourcePath = graph.Location is { } location && !location.Contains("://", StringComparison.Ordinal)
                ? Path.GetFullPath(location) : null,
            MountPoint = place.Path,
            Format = graph.Image.Driver,
            ReadOnly = !graph.Root.CanWrite,
            Cache = _request.Cache.ToString().ToLowerInvariant(),
            Overlay = _request.Image.Overlay,
            Started = DateTimeOffset.Now,
            LogFile = _log.File,
        };
        try
        {
            _states.Write(_state);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _warnings.Add($"'imgmount umount' will not be able to wait for this mount: {e.Message}");
        }
    }

    private void WritePidFile()
    {
        if (_request.PidFile is not { } file)
        {
            return;
        }

        try
        {
            File.WriteAllText(file, string.Create(CultureInfo.InvariantCulture, $"{Environment.ProcessId}\n"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _warnings.Add($"the pid file could not be written: {e.Message}");
        }
    }

    private void Finish(string? failure)
    {
        if (_request.PidFile is { } file)
        {
            try
            {
                File.Delete(file);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                _log.Warning($"the pid file could not be removed: {e.Message}");
            }
        }

        _log.Debug(failure is null ? "closed" : "closed with a failure");
        _log.Dispose();
        if (failure is null)
        {
            _states.Remove(_state.Pid);
            return;
        }

        try
        {
            _states.Write(_state with { Failure = failure });
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The log has it; nobody is left to tell.
        }
    }

    private Exception Explain(Exception e) => e switch
    {
        CommandException => e,
        FuseMountException => new CommandException(e.Message, e),
        BlockException { Kind: BlockErrorKind.ReadOnly } or BlockException
        {
            Kind: BlockErrorKind.PermissionDenied, Errno: not 0, // A wrong passphrase is no better for looking.
        } when !_request.ReadOnly =>
            new CommandException(Messages.Because("cannot mount", e).TrimEnd('.') + ". To only look: --read-only", e),
        BlockException => new CommandException(Messages.Because("cannot mount", e), e),
        _ => e,
    };

    private static async Task CloseQuietlyAsync(Graph? graph)
    {
        if (graph is null)
        {
            return;
        }

        try
        {
            await graph.CloseAsync().ConfigureAwait(false);
        }
        catch (BlockException)
        {
            // Nothing was written yet, and another failure is on its way to the user.
        }
    }

    private static void Say(FileStream output, ReadyReport report)
    {
        try
        {
            output.Write(CliJson.Write(report));
        }
        catch (IOException)
        {
            // Whoever started us has gone. The mount lives on; `imgmount list` shows it.
        }
    }
}
