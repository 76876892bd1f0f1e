using ImageMount.Core.Block;

namespace ImageMount.Cli.Output;

/// <summary>Errors and warnings in the one form they have: <c>imgmount: what: on what, why, what to do</c>.</summary>
public static class Messages
{
    /// <summary>Writes an error to stderr and answers the exit code.</summary>
    public static int Report(Exception exception, bool debug)
    {
        (int code, string text) = exception switch
        {
            UsageException usage => (
                ExitCode.Usage, $"{usage.Message}. {usage.Hint ?? "See 'imgmount --help'."}"),
            CommandException command => (ExitCode.Failed, command.Message),
            BlockException block => (ExitCode.Failed, block.Describe()),
            OperationCanceledException => (ExitCode.Failed, "interrupted"),
            _ => (ExitCode.Failed, $"{exception.Message} ({exception.GetType().Name}; --debug shows details)"),
        };
        Console.Error.WriteLine("imgmount: " + OneLine(text));
        if (debug)
        {
            Console.Error.WriteLine((exception as CommandException)?.Detail ?? exception.ToString());
        }

        return code;
    }

    /// <summary>Writes a warning to stderr.</summary>
    public static void Warn(string message) => Console.Error.WriteLine("imgmount: warning: " + OneLine(message));

    /// <summary>The message of an exception that ended an action: "cannot open the image: …".</summary>
    public static string Because(string what, Exception exception) => exception switch
    {
        BlockException block => $"{what}: {block.Describe()}",
        _ => $"{what}: {exception.Message}",
    };

    // What comes from images and peers may hold anything; a terminal must not be steered by it.
    private static string OneLine(string text) => string.Create(text.Length, text, static (span, source) =>
    {
        for (int i = 0; i < span.Length; i++)
        {
            span[i] = char.IsControl(source[i]) && source[i] != '\n' ? ' ' : source[i];
        }
    });
}
