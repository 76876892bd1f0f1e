using System.Diagnostics;
using System.Text;

namespace ImageMount.Interop.Tests.Peers;

/// <summary>Outcome of a peer's command.</summary>
public sealed record PeerResult(int ExitCode, string Output, string Error)
{
    public override string ToString() => $"exit {ExitCode}\n{Output}\n{Error}";
}

/// <summary>
/// Runs qemu-img and qemu-io, the peers we are compared with. Each command has a watchdog: a peer that hangs on an image
/// of ours is a failed test, not a hung test run.
/// </summary>
public static class PeerTool
{
    private static readonly TimeSpan Watchdog = TimeSpan.FromSeconds(120);

    public static bool HasQemuImg { get; } = IsInstalled("qemu-img");

    public static bool HasQemuIo { get; } = IsInstalled("qemu-io");

    /// <summary>Skips the test, with the reason, where the peers are missing.</summary>
    public static void Require()
    {
        Skip.IfNot(HasQemuImg, "qemu-img is not installed (Debian: apt install qemu-utils)");
        Skip.IfNot(HasQemuIo, "qemu-io is not installed (Debian: apt install qemu-utils)");
    }

    /// <summary>Runs qemu-img; anything but exit 0 fails the test with what it said.</summary>
    public static string Img(params string[] arguments)
    {
        PeerResult result = TryImg(arguments);
        Assert.True(result.ExitCode == 0, $"qemu-img {string.Join(' ', arguments)}: {result}");
        return result.Output;
    }

    /// <summary>Runs qemu-img and gives what it answered.</summary>
    public static PeerResult TryImg(params string[] arguments) => Run("qemu-img", arguments, null);

    /// <summary>Runs qemu-io commands, in order, on one image in one process.</summary>
    public static string Io(string image, string format, IEnumerable<string> commands) =>
        Io(["-f", format, image], commands);

    /// <summary>The same on an image that is given as qemu-io's arguments: one that needs a secret.</summary>
    public static string Io(string[] source, IEnumerable<string> commands)
    {
        PeerResult result = TryIo(source, commands);
        Assert.True(
            result.ExitCode == 0 && !result.Output.Contains("failed", StringComparison.Ordinal),
            $"qemu-io {string.Join(' ', source)}: {result}");
        return result.Output;
    }

    /// <summary>Runs qemu-io commands and gives what it answered; it exits with 1 when one of them failed.</summary>
    public static PeerResult TryIo(string image, string format, IEnumerable<string> commands) =>
        TryIo(["-f", format, image], commands);

    private static PeerResult TryIo(string[] source, IEnumerable<string> commands) =>
        Run("qemu-io", ["-t", "unsafe", .. source], string.Join('\n', commands) + "\nquit\n");

    private static bool IsInstalled(string tool) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(dir => File.Exists(Path.Combine(dir, tool)));

    private static PeerResult Run(string tool, IEnumerable<string> arguments, string? input)
    {
        var start = new ProcessStartInfo(tool)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        using var process = Process.Start(start)!;
        var output = new StringBuilder();
        var error = new StringBuilder();
        process.OutputDataReceived += (_, e) => Append(output, e.Data);
        process.ErrorDataReceived += (_, e) => Append(error, e.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        if (input is not null)
        {
            process.StandardInput.Write(input);
        }

        process.StandardInput.Close();
        if (!process.WaitForExit(Watchdog))
        {
            process.Kill();
            process.WaitForExit();
            Assert.Fail($"{tool} {string.Join(' ', start.ArgumentList)} did not end within {Watchdog}");
        }

        process.WaitForExit(); // the overload without a limit also waits for the last output lines
        return new PeerResult(process.ExitCode, output.ToString(), error.ToString());
    }

    private static void Append(StringBuilder text, string? line)
    {
        if (line is not null)
        {
            text.Append(line).Append('\n');
        }
    }
}
