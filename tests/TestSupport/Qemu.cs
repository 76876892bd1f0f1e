using System.Diagnostics;

namespace ImageMount.TestSupport;

/// <summary>Result of a program that ran to its end.</summary>
public sealed record ToolResult(int ExitCode, string Output, string Error)
{
    /// <summary>Both streams, for failure messages.</summary>
    public string All => Output + Error;
}

/// <summary>Runs qemu-img, qemu-io and other programs with a time limit; skips the test where one is missing.</summary>
public static class Qemu
{
    /// <summary>Runs qemu-img and requires success.</summary>
    public static string Img(params string[] arguments) => Succeed("qemu-img", arguments);

    /// <summary>
    /// Runs qemu-io commands on an image and requires success. qemu-io tells of failed requests only in text.
    /// </summary>
    public static string Io(string format, string image, params string[] commands)
    {
        string[] arguments = ["-f", format, .. commands.SelectMany(command => (string[])["-c", command]), image];
        string output = Succeed("qemu-io", arguments);
        Assert.False(
            output.Contains("failed", StringComparison.Ordinal) || output.Contains("error", StringComparison.Ordinal),
            $"qemu-io {string.Join(' ', arguments)}: {output}");
        return output;
    }

    /// <summary>Runs a program and requires success.</summary>
    public static string Succeed(string tool, params string[] arguments)
    {
        ToolResult result = Run(tool, arguments);
        Assert.True(result.ExitCode == 0, $"{tool} {string.Join(' ', arguments)} gave {result.ExitCode}: {result.All}");
        return result.Output;
    }

    /// <summary>
    /// Converts into a compressed qcow (version 1). qemu-img writes all of it, and then fails without a word because this
    /// format has nothing to do for its last call; so what counts is that it finds the content.
    /// </summary>
    public static void CompressedQcow(string rawFile, string target)
    {
        Run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow", rawFile, target);
        Img("compare", "-f", "raw", "-F", "qcow", rawFile, target);
    }

    /// <summary>Runs a program; after a minute it is killed and the test fails.</summary>
    public static ToolResult Run(string tool, params string[] arguments)
    {
        Require.Tool(tool);
        var start = new ProcessStartInfo(Require.FindTool(tool)!)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["LC_ALL"] = "C";
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(TimeSpan.FromMinutes(1)))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{tool} {string.Join(' ', arguments)} did not end within a minute");
        }

        process.WaitForExit();
        return new ToolResult(process.ExitCode, output.GetAwaiter().GetResult(), error.GetAwaiter().GetResult());
    }
}
