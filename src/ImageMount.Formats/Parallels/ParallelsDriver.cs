using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Parallels;

/// <summary>Parallels' disks: image files, and bundles of them. See docs/drivers/parallels.md.</summary>
public sealed class ParallelsDriver : BlockDriver<ParallelsOptions>
{
    /// <inheritdoc/>
    public override string Name => "parallels";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "Parallels disks: image files, and bundles with snapshots.";

    /// <inheritdoc/>
    public override ImageCreator? Creator { get; } = new ParallelsCreator();

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) => ParallelsHeader.HasMagic(input.Head)
        || ParallelsDescriptor.Probe(input.Head) ? 100 : 0;

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, ParallelsOptions options, CancellationToken cancellationToken)
    {
        if (await IsBundleAsync(context.File, cancellationToken).ConfigureAwait(false))
        {
            return await ParallelsBundle.OpenAsync(context, cancellationToken).ConfigureAwait(false);
        }

        bool writable = context.Flags.Writable;
        ParallelsImage image = await ParallelsImage.OpenAsync(context.File, writable, context.Warn, cancellationToken)
            .ConfigureAwait(false);
        return new ParallelsDevice(image, writable);
    }

    private static async ValueTask<bool> IsBundleAsync(BlockNode file, CancellationToken cancellationToken)
    {
        int count = (int)Math.Min(file.Length, ProbeInput.HeadSize);
        using BufferLease head = BufferPool.Shared.Rent(ProbeInput.HeadSize);
        await file.ReadAsync(0, head.Memory[..count], cancellationToken).ConfigureAwait(false);
        return !ParallelsHeader.HasMagic(head.Span[..count]) && ParallelsDescriptor.Probe(head.Span[..count]);
    }
}
