using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Filters.Fault;

/// <summary>Driver "fault": makes requests fail by a rule.</summary>
public sealed class FaultDriver : BlockDriver<FaultOptions>
{
    /// <inheritdoc/>
    public override string Name => "fault";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Filter;

    /// <inheritdoc/>
    public override string Summary => "Makes chosen requests fail, to try out what happens then.";

    /// <inheritdoc/>
    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, FaultOptions options, CancellationToken cancellationToken) =>
        new(new FaultDevice(context.File, options));
}
