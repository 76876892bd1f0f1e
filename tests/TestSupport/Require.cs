namespace ImageMount.TestSupport;

/// <summary>
/// Skips a test visibly, with the reason, when the machine lacks what it needs. Use in [SkippableFact].
/// </summary>
public static class Require
{
    /// <summary>A program on the PATH.</summary>
    public static void Tool(string name) => Skip.If(FindTool(name) is null, $"{name} is not installed");

    /// <summary>The user is root.</summary>
    public static void Root() => Skip.IfNot(Environment.IsPrivilegedProcess, "needs root");

    /// <summary>Linux with /dev/fuse that this user may open.</summary>
    public static void Fuse()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "needs Linux");
        Skip.IfNot(File.Exists("/dev/fuse"), "there is no /dev/fuse");
    }

    /// <summary>The path of a program, or null.</summary>
    public static string? FindTool(string name) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':')
            .Concat(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
            .Where(folder => folder.Length > 0)
            .Select(folder => Path.Combine(folder, name))
            .FirstOrDefault(File.Exists);
}
