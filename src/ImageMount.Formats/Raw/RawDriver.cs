using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Raw;

/// <summary>
/// Driver "raw": the bytes of the file are the bytes of the disk. What no other format recognises is raw.
/// </summary>
public sealed class RawDriver : BlockDriver<RawOptions>
{
    /// <inheritdoc/>
    public override string Name => "raw";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "The bytes of the file, or of a part of it, as they are.";

    /// <inheritdoc/>
    public override ImageCreator? Creator { get; } = new RawCreator();

    /// <inheritdoc/>
    protected override ValueTask<BlockDevice> OpenAsync(
        OpenContext context, RawOptions options, CancellationToken cancellationToken)
    {
        FileRegion region = FileRegion.Choose(context.File.Length, options.Offset, options.Size);
        return new(new RegionDevice(context.File, region));
    }
}
