using System.Diagnostics;
using System.Text;

namespace ImageMount.VirtualFat.Tests.Support;

/// <summary>Runs a peer in a UTF-8 locale and in UTC.</summary>
internal static class Tool
{
    public static (int Code, string Output) Run(string name, params string[] arguments)
    {
        var start = new ProcessStartInfo(Require.FindTool(name) ?? name)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardOutputEncoding = Encoding.UTF8,
        };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["LC_ALL"] = "C.UTF-8";
        start.Environment["TZ"] = "UTC";
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        if (!process.WaitForExit(60_000))
        {
            process.Kill();
            Assert.Fail($"{name} does not end");
        }

        return (process.ExitCode, output + errors.Result);
    }
}
