using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Filters.Overlay;

/// <summary>Driver "overlay": a disk that may be written while the one below stays as it is.</summary>
public sealed class OverlayDriver : BlockDriver<OverlayOptions>
{
    /// <inheritdoc/>
    public override string Name => "overlay";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Filter;

    /// <inheritdoc/>
    public override string Summary => "Keeps all changes aside until it is closed, and then forgets them.";

    /// <inheritdoc/>
    public override bool WritesFile => false;

    /// <inheritdoc/>
    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, OverlayOptions options, CancellationToken cancellationToken)
    {
        string folder = options.Directory ?? DefaultFolder();
        return new(new OverlayDevice(context.File, new OverlayStore(options.Memory, folder)));
    }

    private static string DefaultFolder()
    {
        string? chosen = Environment.GetEnvironmentVariable("TMPDIR");

        // /tmp is often memory, which is what a large overlay must not use up.
        return !string.IsNullOrEmpty(chosen) ? chosen
            : System.IO.Directory.Exists("/var/tmp") ? "/var/tmp" : Path.GetTempPath();
    }
}
