using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qed;

/// <summary>QEMU's enhanced disk format, the predecessor of qcow2 version 3. See docs/drivers/qed.md.</summary>
public sealed class QedDriver : BlockDriver<QedOptions>
{
    /// <inheritdoc/>
    public override string Name => "qed";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "QEMU's enhanced disk format (QED).";

    /// <inheritdoc/>
    public override ImageCreator? Creator { get; } = new QedCreator();

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) =>
        new SpanReader(input.Head).TryRead(out Le32 magic) && magic == QedLayout.Magic ? 100 : 0;

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, QedOptions options, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        QedHeader header = await QedHeader.ReadAsync(file, cancellationToken).ConfigureAwait(false);
        bool writable = context.Flags.Writable;
        BlockNode? backing = header.BackingFile is null && !context.HasChildOptions("backing")
            ? null
            : await ReferredFile.OpenAsync(
                context, "backing", header.BackingFile, header.BackingFormat, writable: false, cancellationToken)
                .ConfigureAwait(false);

        // No more of the table than the disk needs: with large clusters most of it describes nothing.
        var encoding = new QedMap(header);
        RootTable l1 = await RootTable.ReadAsync(
            file, header.L1Offset, (int)header.Geometry.L1EntriesFor(header.Size), encoding.Order, cancellationToken)
            .ConfigureAwait(false);
        var image = new ClusterImage(file, backing, header.Geometry, encoding, l1)
        {
            IsLenient = header.NeedsCheck && !writable,
        };
        var device = new QedDevice(header, image, context.ResolveReference);
        if (writable)
        {
            await device.OpenForWritingAsync(cancellationToken).ConfigureAwait(false);
        }
        else if (header.NeedsCheck)
        {
            await WarnAsync(context, image, header, cancellationToken).ConfigureAwait(false);
        }

        return device;
    }

    /// <summary>An image that was not closed may be read: what leads nowhere counts as unallocated.</summary>
    private static async ValueTask WarnAsync(
        OpenContext context, ClusterImage image, QedHeader header, CancellationToken cancellationToken)
    {
        CheckReport report = await QedCheck.RunAsync(image, header, header.Size, cancellationToken).ConfigureAwait(false);
        long problems = report.Corruptions + report.CheckErrors;
        context.Warn(problems == 0
            ? $"{context.NodeName}: the image was not closed; its tables are sound"
            : $"{context.NodeName}: the image was not closed, and {problems} things are wrong in it; entries that lead "
                + "nowhere are taken for unallocated (opening it for writing repairs them)");
    }
}
