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

    /// <summary>Starts the mount; when this returns it can be used. The answer is its warnings.</summary>
    /// <exception cref="CommandException">It could not be mounted.</exception>
    public static IReadOnlyList<string> Start(MountRequest request)
    {
        using Process process = Process.Start(StartInfo())
            ?? throw new CommandException("cannot start the background process");
        try
        {
            process.StandardInput.BaseStream.Write(CliJson.Write(request));
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

        ReadyReport report = CliJson.ReadReport(answer.ToArray());
        return report.IsReady
            ? report.Warnings
            : throw new CommandException(report.Error ?? "unknown failure", detail: report.Detail);
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
