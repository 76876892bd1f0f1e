using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Filters.Window;

/// <summary>Driver "window": a part of a disk as a disk.</summary>
public sealed class WindowDriver : BlockDriver<WindowOptions>
{
    /// <inheritdoc/>
    public override string Name => "window";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Filter;

    /// <inheritdoc/>
    public override string Summary => "A part of the disk below, of any format, as a disk of its own.";

    /// <inheritdoc/>
    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, WindowOptions options, CancellationToken cancellationToken)
    {
        FileRegion region = FileRegion.Choose(context.File.Length, options.Offset, options.Size);
        return new(new RegionDevice(context.File, region));
    }
}
