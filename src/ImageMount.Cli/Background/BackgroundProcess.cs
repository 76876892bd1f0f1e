using System.ComponentModel;
using System.Diagnostics;

namespace ImageMount.Cli.Background;

/// <summary>
/// The foreground side of a mount: starts this program again, hands it the request through its standard input, and
/// waits until it says "ready" (the mount can be used) or why not. .NET cannot fork; starting anew costs 50 to 100 ms, so
/// it is done first of all, and the arguments are read meanwhile. A copy that gets no request ends without a word.
/// </summary>
public sealed class BackgroundProcess : IDisposable
{
    /// <summary>The only argument of the background copy.</summary>
    public const string Marker = "--serve-mount-from-stdin";

    private readonly Process _process;

    private BackgroundProcess(Process process) => _process = process;

    /// <summary>Starts the copy.</summary>
    /// <exception cref="CommandException">It could not be started.</exception>
    public static BackgroundProcess Begin()
    {
        try
        {
            return new(Process.Start(StartInfo())
                ?? throw new CommandException("cannot start the background process"));
        }
        catch (Win32Exception e)
        {
            throw new CommandException($"cannot start the background process: {e.Message}", e);
        }
    }

    /// <summary>
    /// Has it mount; when this returns the mount can be used. The answer is its warnings. A passphrase that turns out to be
    /// missing is asked for here, where the terminal is, and the mount is tried once more, by another copy, with it.
    /// </summary>
    /// <exception cref="CommandException">It could not be mounted.</exception>
    public IReadOnlyList<string> Mount(MountRequest request)
    {
        ReadyReport report = Send(request);
        while (!report.IsReady && report.NeedsPassphraseOf is { } what && request.Secrets.TryAsk(what))
        {
            using BackgroundProcess another = Begin();
            report = another.Send(request);
        }

        return report.IsReady
            ? report.Warnings
            : throw new CommandException(report.Error ?? "unknown failure", detail: report.Detail);
    }

    /// <summary>Lets go of it: with a request it goes on by itself, without one it ends.</summary>
    public void Dispose()
    {
        _process.StandardInput.Dispose();
        _process.Dispose();
    }

    private ReadyReport Send(MountRequest request)
    {
        try
        {
            // The command line and the environment of a process are for everybody to see; a pipe is not.
            using WipedBuffer text = CliJson.Write(request);
            _process.StandardInput.BaseStream.Write(text.Written.Span);
            _process.StandardInput.Close();
        }
        catch (IOException)
        {
            // It has ended already; below it is told how.
        }

        using var answer = new MemoryStream();
        _process.StandardOutput.BaseStream.CopyTo(answer);
        if (answer.Length == 0)
        {
            _process.WaitForExit();
            throw new CommandException(
                $"the background process ended unexpectedly (exit code {_process.ExitCode}); try --foreground");
        }

        return CliJson.ReadReport(answer.ToArray());
    }

    private static ProcessStartInfo StartInfo()
    {
        string program = Environment.ProcessPath!;
        var start = new ProcessStartInfo(program) { RedirectStandardInput = true, RedirectStandardOutput = true };
        if (Path.GetFileNameWithoutExtension(program) == "dotnet")
        {
            // "dotnet imgmount.dll": the host needs to be told again.
            start.ArgumentList.Add(Path.Join(AppContext.BaseDirectory, "imgmount.dll"));
        }

        start.ArgumentList.Add(Marker);
        return start;
    }
}
