using System.Diagnostics;
using System.Reflection;
using System.Text;

namespace ImageMount.Mount.Tests.Support;

/// <summary>What a command answered.</summary>
public sealed record ToolResult(string Command, int ExitCode, string Output, string Error)
{
    public override string ToString() => $"$ {Command}\nexit {ExitCode}\n{Output}{Error}";
}

/// <summary>
/// Runs programs with a time limit. The result is only there when the program has ended and its output is at an end:
/// a background process that keeps the caller's output open would hang a user's <c>$(imgmount …)</c>, and fails here.
/// </summary>
public static class Tool
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(90);

    /// <summary>The program under test; IMGMOUNT in the environment names another build.</summary>
    public static string Imgmount { get; } =
        Environment.GetEnvironmentVariable("IMGMOUNT") is { Length: > 0 } path ? path : Metadata("ImgmountPath");

    /// <summary>The checkout, for the samples.</summary>
    public static string Repository { get; } = Metadata("RepositoryPath");

    /// <summary>Runs a tool that must succeed, and gives its output.</summary>
    public static string Run(string tool, params string[] arguments)
    {
        ToolResult result = Try(tool, arguments);
        Assert.True(result.ExitCode == 0, result.ToString());
        return result.Output;
    }

    /// <summary>Runs a tool and gives whatever it answered.</summary>
    public static ToolResult Try(string tool, params string[] arguments) => TryWithInput(null, tool, arguments);

    /// <summary>Runs a tool with text on its standard input.</summary>
    public static ToolResult TryWithInput(string? input, string tool, params string[] arguments)
    {
        using Process process = Start(tool, arguments);
        var output = new StringBuilder();
        var error = new StringBuilder();
        Task[] readers =
        [
            CopyAsync(process.StandardOutput, output),
            CopyAsync(process.StandardError, error),
        ];
        try
        {
            process.StandardInput.Write(input);
            process.StandardInput.Close();
        }
        catch (IOException)
        {
            // The tool ended without reading; its exit code tells the rest.
        }

        string command = $"{tool} {string.Join(' ', arguments)}";
        if (!process.WaitForExit(Limit))
        {
            process.Kill();
            process.WaitForExit(Limit);
            Assert.Fail($"'{command}' did not end within {Limit.TotalSeconds} s; so far: {Text(output)}{Text(error)}");
        }

        Assert.True(
            Task.WaitAll(readers, TimeSpan.FromSeconds(20)),
            $"'{command}' ended, but something it started keeps its output open");
        return new ToolResult(command, process.ExitCode, output.ToString(), error.ToString());
    }

    /// <summary>Starts a tool that the test talks to or ends itself.</summary>
    public static Process Start(string tool, params string[] arguments)
    {
        string path = tool.Contains('/') ? tool : Require.FindTool(tool) ?? throw new FileNotFoundException($"no {tool} on PATH");
        var start = new ProcessStartInfo(path, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        // Messages in the language the tests expect; and tests must not depend on who runs them.
        start.Environment["LC_ALL"] = "C";
        return Process.Start(start)!;
    }

    private static async Task CopyAsync(StreamReader from, StringBuilder to)
    {
        var buffer = new char[4096];
        int count;
        while ((count = await from.ReadAsync(buffer).ConfigureAwait(false)) > 0)
        {
            lock (to)
            {
                to.Append(buffer, 0, count);
            }
        }
    }

    private static string Text(StringBuilder from)
    {
        lock (from)
        {
            return from.ToString();
        }
    }

    private static string Metadata(string key) =>
        typeof(Tool).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(item => item.Key == key).Value!;
}
