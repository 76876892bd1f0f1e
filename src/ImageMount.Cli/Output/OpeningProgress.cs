using System.Globalization;
using ImageMount.Core.Graph;

namespace ImageMount.Cli.Output;

/// <summary>
/// Tells a person who waits for an image that has to be read through (a compressed file without an index) how far it
/// is: a line every few seconds, none for what is quick.
/// </summary>
internal sealed class OpeningProgress(TextWriter output, TimeProvider clock) : IProgress<OpenProgress>
{
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(3);

    private readonly Lock _lock = new();
    private long _last = clock.GetTimestamp();
    private bool _isOver;

    /// <summary>Nobody waits any more: later reports are not for people.</summary>
    public void Stop()
    {
        lock (_lock)
        {
            _isOver = true;
        }
    }

    /// <inheritdoc/>
    public void Report(OpenProgress value)
    {
        lock (_lock)
        {
            if (_isOver || clock.GetElapsedTime(_last) < s_interval || value.Total <= 0)
            {
                return;
            }

            _last = clock.GetTimestamp();
            long percent = value.Done * 100 / value.Total;
            output.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"imgmount: {value.Node}: {value.What}, {percent} %"));
        }
    }
}
