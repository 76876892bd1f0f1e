using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vdi;

/// <summary>VirtualBox's disks: dynamic, static and differencing. See docs/drivers/vdi.md.</summary>
public sealed class VdiDriver : BlockDriver<VdiOptions>
{
    /// <inheritdoc/>
    public override string Name => "vdi";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "VirtualBox disks: dynamic, static and differencing.";

    /// <inheritdoc/>
    public override ImageCreator? Creator { get; } = new VdiCreator();

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) => VdiHeader.HasSignature(input.Head) ? 100 : 0;

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, VdiOptions options, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        VdiHeader header = await VdiHeader.ReadAsync(file, cancellationToken).ConfigureAwait(false);
        var table = new BlockTable(header.MakeLayout(file));
        FileSpace? space = null;
        if (context.Flags.Writable)
        {
            space = await PrepareWritingAsync(header, table, context, cancellationToken).ConfigureAwait(false);
        }

        BlockNode? backing = header.HasParent
            ? await OpenParentAsync(context, header, cancellationToken).ConfigureAwait(false) : null;
        return new VdiDevice(header, table, backing, space);
    }

    private static async ValueTask<FileSpace> PrepareWritingAsync(
        VdiHeader header, BlockTable table, OpenContext context, CancellationToken cancellationToken)
    {
        if (header.WhyReadOnly is { } why)
        {
            throw new BlockException(BlockErrorKind.ReadOnly, why)
            {
                Hint = "Open it read-only (--read-only), or with a temporary overlay for changes (--snapshot).",
            };
        }

        BlockUsage usage = await BlockUsage.ScanAsync(table, null, cancellationToken).ConfigureAwait(false);
        usage.RequireSound();
        long next = usage.Count == 0 ? 0 : usage.Entries[^1] + 1L;
        if (header.BlocksAllocated != next)
        {
            context.Warn($"the header counts {header.BlocksAllocated} blocks and the table needs {next}; "
                + "the first change sets that right");
        }

        var space = new FileSpace(
            table.Layout.Node, header.DataOffset, table.Layout.Footprint, next, VdiLayout.ZeroBlock);
        long free = 0;
        foreach (uint entry in usage.Entries)
        {
            if (entry > free)
            {
                space.AddFree(free, entry - free);
            }

            free = entry + 1L;
        }

        return space;
    }

    private static async ValueTask<BlockNode?> OpenParentAsync(
        OpenContext context, VdiHeader header, CancellationToken cancellationToken)
    {
        if (!context.HasChildOptions("backing"))
        {
            return context.Flags.NoBacking
                ? MissingParent.Create(header.LinkId.ToString("B"))
                : throw new BlockException(
                    BlockErrorKind.NotFound,
                    $"the image holds changes of a parent, and knows it only as {header.LinkId:B}")
                {
                    Hint = "Name the parent with backing.file.filename=…, or leave it out with 'backing='.",
                };
        }

        BlockNode? parent = await context.OpenChildAsync("backing", null, "vdi", writable: false, cancellationToken)
            .ConfigureAwait(false);
        if (parent is null)
        {
            return null;
        }

        if (parent.Device is not VdiDevice device)
        {
            context.Warn($"the parent '{parent.Name}' is not a VDI image, so nobody knows whether it is the right one");
        }
        else if (device.Header.CreateId != header.LinkId)
        {
            throw new BlockException(
                BlockErrorKind.InvalidData, $"'{parent.Name}' is not the parent that this image was made on")
            {
                Found = device.Header.CreateId.ToString("B"),
                Expected = header.LinkId.ToString("B"),
            };
        }
        else if (header.ParentModifyId != Guid.Empty && device.Header.ModifyId != header.ParentModifyId)
        {
            context.Warn($"the parent '{parent.Name}' was changed after this image was made on it: "
                + "what is read may be wrong");
        }

        return parent;
    }
}
