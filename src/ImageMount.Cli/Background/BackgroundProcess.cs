using System.Diagnostics;

namespace ImageMount.Cli.Background;

/// <summary>
/// The foreground side of a mount: starts this program again, hands it the request through its standard input, and
/// waits until it says "ready" (the mount can be used) or why not. .NET cannot fork; starting anew costs some 50 ms.
/// </summary>
public static class BackgroundProcess
{
    /// <summary>The only argument of the background copy.</summary>
    public const string Marker = "--serve-mount-from-stdin";

    /// <summary>
    /// Starts the mount; when this returns it can be used. The answer is its warnings. A passphrase that turns out to be
    /// missing is asked for here, where the terminal is, and the mount is tried once more with it.
    /// </summary>
    /// <exception cref="CommandException">It could not be mounted.</exception>
    public static IReadOnlyList<string> Start(MountRequest request)
    {
        while (true)
        {
            ReadyReport report = TryStart(request);
            if (report.IsReady)
            {
                return report.Warnings;
            }

            if (report.NeedsPassphraseOf is not { } what || !request.Secrets.TryAsk(what))
            {
                throw new CommandException(report.Error ?? "unknown failure", detail: report.Detail);
            }
        }
    }

    private static ReadyReport TryStart(MountRequest request)
    {
        using Process process = Process.Start(StartInfo())
            ?? throw new CommandException("cannot start the background process");
        try
        {
            // The command line and the environment of a process are for everybody to see; a pipe is not.
            using WipedBuffer text = CliJson.Write(request);
            process.StandardInput.BaseStream.Write(text.Written.Span);
            process.StandardInput.Close();
        }
        catch (IOException)
        {
            // It has ended already; below it is told how.
        }

        using var answer = new MemoryStream();
        process.StandardOutput.BaseStream.CopyTo(answer);
        if (answer.Length == 0)
        {
            process.WaitForExit();
            throw new CommandException(
                $"the background process ended unexpectedly (exit code {process.ExitCode}); try --foreground");
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
