using System.Diagnostics;

namespace ImageMount.VirtualFat.Tests.Support;

/// <summary>Runs mtools, mkfs.fat and fsck.fat, with times in UTC and names in UTF-8.</summary>
internal static class Mtools
{
    /// <summary>Makes an image.</summary>
    public static void Format(string image, int kibibytes, params string[] options) =>
        Run("mkfs.fat", ["-C", "-i", "1234abcd", .. options, image, kibibytes.ToString()]);

    /// <summary>Runs an mtools command on an image that is one volume.</summary>
    public static void On(string image, string command, params string[] arguments) =>
        Run(command, ["-i", image, .. arguments]);

    /// <summary>True when fsck.fat finds nothing wrong.</summary>
    public static bool IsClean(string image, out string output) => TryRun("fsck.fat", ["-n", image], out output) == 0;

    /// <summary>Runs a program and requires success.</summary>
    public static string Run(string tool, params string[] arguments)
    {
        int code = TryRun(tool, arguments, out string output);
        Assert.True(code == 0, $"{tool} {string.Join(' ', arguments)} gave {code}: {output}");
        return output;
    }

    /// <summary>Runs a program.</summary>
    public static int TryRun(string tool, string[] arguments, out string output)
    {
        Require.Tool(tool);
        var start = new ProcessStartInfo(Require.FindTool(tool)!)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["LC_ALL"] = "C.UTF-8";
        start.Environment["TZ"] = "UTC";
        start.Environment["MTOOLS_SKIP_CHECK"] = "1";
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> error = process.StandardError.ReadToEndAsync();
        output = process.StandardOutput.ReadToEnd() + error.GetAwaiter().GetResult();
        Assert.True(process.WaitForExit(60_000), $"{tool} hangs");
        return process.ExitCode;
    }
}
