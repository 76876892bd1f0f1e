using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vpc;

/// <summary>VHD, the disks of Virtual PC, Virtual Server, Hyper-V and Azure. See docs/drivers/vpc.md.</summary>
public sealed class VpcDriver : BlockDriver<VpcOptions>
{
    /// <inheritdoc/>
    public override string Name => "vpc";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "VHD, the disks of Virtual PC and Hyper-V: fixed, dynamic and differencing.";

    /// <inheritdoc/>
    public override ImageCreator? Creator { get; } = new VpcCreator();

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) => VpcFooter.Probe(input.Head, input.Tail, input.Length);

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, VpcOptions options, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        VpcFooter footer = await VpcFooter.ReadAsync(file, context.Warn, cancellationToken).ConfigureAwait(false);
        long length = VpcSize.Of(footer, options.SizeCalculation);
        if (footer.Type == VpcType.Fixed)
        {
            return length <= file.Length - footer.TailSize
                ? new VpcFixedDevice(file, footer, length)
                : throw BlockException.Invalid(
                    "the file is smaller than its disk", file.Length - footer.TailSize, $"0x{file.Length:x} bytes",
                    $"0x{length + footer.TailSize:x}");
        }

        VpcHeader header = await VpcHeader.ReadAsync(file, footer, cancellationToken).ConfigureAwait(false);
        var table = new BlockTable(header.MakeLayout(file, length));
        if (!header.IsSound)
        {
            context.Warn("the checksum of the header is wrong; what is read may be wrong");
        }

        FileSpace? space = context.Flags.Writable
            ? await PrepareWritingAsync(footer, header, table, cancellationToken).ConfigureAwait(false) : null;
        BlockNode? backing = footer.Type == VpcType.Differencing
            ? await VpcParent.OpenAsync(context, header, cancellationToken).ConfigureAwait(false) : null;
        return new VpcDevice(footer, header, table, backing, space);
    }

    private static async ValueTask<FileSpace> PrepareWritingAsync(
        VpcFooter footer, VpcHeader header, BlockTable table, CancellationToken cancellationToken)
    {
        if (!header.IsSound)
        {
            throw new BlockException(BlockErrorKind.InvalidData, "the header is damaged (its checksum is wrong)")
            {
                Offset = header.Offset + VpcHeader.ChecksumOffset,
                Hint = "Open it read-only (--read-only), and save what can be saved.",
            };
        }

        BlockUsage usage = await BlockUsage.ScanAsync(table, null, cancellationToken).ConfigureAwait(false);
        usage.RequireSound();
        BlockTableLayout layout = table.Layout;
        long end = Math.Max(usage.End, layout.Reserved.Max(range => range.End));
        foreach (VpcLocator locator in header.Locators)
        {
            // Only a bound for new blocks: some programs leave locators that lead anywhere.
            end = Math.Max(end, Math.Min(locator.Offset, layout.Node.Length - locator.Length) + locator.Length);
        }

        long start = (end + VpcLayout.SectorSize - 1) / VpcLayout.SectorSize * VpcLayout.SectorSize;
        long places = (((long)layout.MaxEntry * VpcLayout.SectorSize) - start) / layout.Footprint;
        BlockNode file = layout.Node;
        bool hasTail = footer.TailSize == VpcLayout.FooterSize && file.Length - VpcLayout.FooterSize >= start;
        return new FileSpace(file, start, layout.Footprint, 0, Math.Max(0, places), footer.Bytes, hasTail);
    }
}
