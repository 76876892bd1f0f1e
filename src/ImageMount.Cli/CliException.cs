namespace ImageMount.Cli;

/// <summary>How the program ends.</summary>
public static class ExitCode
{
    public const int Done = 0;
    public const int Failed = 1;
    public const int Usage = 2;

    // `check` only, as qemu-img has them.
    public const int CheckCorruptions = 2;
    public const int CheckLeaks = 3;
    public const int CheckNotSupported = 63;
}

/// <summary>The command line is wrong: exit code 2, and where to read on.</summary>
public sealed class UsageException(string message, string? hint = null) : Exception(message)
{
    /// <summary>What to do, as a full sentence; null: `--help`.</summary>
    public string? Hint { get; } = hint;
}

/// <summary>A command failed: exit code 1. The message is complete.</summary>
public sealed class CommandException(string message, Exception? inner = null, string? detail = null)
    : Exception(message, inner)
{
    /// <summary>More for --debug, from another process.</summary>
    public string? Detail { get; } = detail;
}
