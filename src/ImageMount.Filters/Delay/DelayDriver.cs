using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Filters.Delay;

/// <summary>Driver "delay": a slow disk.</summary>
public sealed class DelayDriver : BlockDriver<DelayOptions>
{
    /// <inheritdoc/>
    public override string Name => "delay";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Filter;

    /// <inheritdoc/>
    public override string Summary => "Delays requests, to try out a slow disk.";

    /// <inheritdoc/>
    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, DelayOptions options, CancellationToken cancellationToken) =>
        new(new DelayDevice(context.File, options, TimeProvider.System));
}
