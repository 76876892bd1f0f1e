using Serilog;
using Serilog.Core;
using Serilog.Events;

namespace ImageMount.Cli.Background;

/// <summary>
/// The log of a mount: stderr in the foreground, a file in the background. The logger is made when there is something
/// to log, because most mounts never have.
/// </summary>
public sealed class MountLog(string? file, bool toConsole, bool debug) : IDisposable
{
    /// <summary>Most lines about failed requests: a dying disk must not fill the file system.</summary>
    public const int MaxRequestWarnings = 1000;

    private const string Template =
        "{Timestamp:yyyy-MM-dd HH:mm:ss.fff zzz} {Level:u3} {Message:lj}{NewLine}{Exception}";
    private readonly Lock _lock = new();
    private Logger? _logger;
    private int _requestWarnings;

    /// <summary>The file, or null.</summary>
    public string? File { get; } = file;

    /// <summary>Something that may be useful to know when debugging.</summary>
    public void Debug(string message)
    {
        if (debug)
        {
            Write(LogEventLevel.Debug, message, null);
        }
    }

    /// <summary>How far something is that takes long: for whoever sits before it, or debugs.</summary>
    public void Progress(string message)
    {
        if (toConsole || debug)
        {
            Write(LogEventLevel.Information, message, null);
        }
    }

    /// <summary>Something that the user may want to know.</summary>
    public void Warning(string message, Exception? exception = null) =>
        Write(LogEventLevel.Warning, message, exception);

    /// <summary>Something that went wrong for good.</summary>
    public void Error(string message, Exception? exception = null) => Write(LogEventLevel.Error, message, exception);

    /// <summary>A request through the mount failed; the program that made it got an errno.</summary>
    public void RequestWarning(string message, Exception? exception)
    {
        int count = Interlocked.Increment(ref _requestWarnings);
        if (count <= MaxRequestWarnings)
        {
            Warning(
                exception is Core.Block.BlockException block ? $"{message}: {block.Describe()}" : message, exception);
        }
        else if (count == MaxRequestWarnings + 1)
        {
            Warning("many requests have failed; the rest is not logged (see .imgmount/stats.json)");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            _logger?.Dispose();
            _logger = null;
        }
    }

    private void Write(LogEventLevel level, string message, Exception? exception)
    {
        // Stack traces are for --debug, as everywhere.
        exception = debug ? exception : null;
        lock (_lock)
        {
            _logger ??= Make();
            _logger.Write(level, exception, "{Text:l}", message);
        }
    }

    private Logger Make()
    {
        LoggerConfiguration configuration = new LoggerConfiguration()
            .MinimumLevel.Is(debug ? LogEventLevel.Debug : LogEventLevel.Information);
        if (toConsole)
        {
            configuration.WriteTo.Console(
                outputTemplate: "imgmount: {Message:lj}{NewLine}{Exception}",
                standardErrorFromLevel: LogEventLevel.Verbose,
                formatProvider: System.Globalization.CultureInfo.InvariantCulture);
        }

        if (File is not null)
        {
            configuration.WriteTo.File(
                File, outputTemplate: Template, formatProvider: System.Globalization.CultureInfo.InvariantCulture,
                fileSizeLimitBytes: 64 << 20, retainedFileCountLimit: null);
        }

        return configuration.CreateLogger();
    }
}
