using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Formats.Vhdx;

/// <summary>Hyper-V's disks: fixed, dynamic and differencing. See docs/drivers/vhdx.md.</summary>
public sealed class VhdxDriver : BlockDriver<VhdxOptions>
{
    /// <inheritdoc/>
    public override string Name => "vhdx";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "Hyper-V virtual disks, version 2: fixed, dynamic and differencing.";

    /// <inheritdoc/>
    public override ImageCreator? Creator { get; } = new VhdxCreator();

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) => VhdxHeader.HasSignature(input.Head) ? 100 : 0;

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, VhdxOptions options, CancellationToken cancellationToken)
    {
        bool writable = context.Flags.Writable;
        VhdxHeader header = await VhdxHeader.ReadAsync(context.File, cancellationToken).ConfigureAwait(false);
        if (writable && header.LogLength == 0)
        {
            throw new BlockException(
                BlockErrorKind.ReadOnly, "the image has no log, without which it cannot be changed safely")
            {
                Hint = "Open it read-only (--read-only), or with a temporary overlay for changes (--snapshot).",
            };
        }

        BlockNode file = context.File;
        bool wasDirty = header.LogGuid != Guid.Empty;
        if (wasDirty)
        {
            (file, header) = await ReplayAsync(context, header, writable, cancellationToken).ConfigureAwait(false);
        }

        VhdxRegions regions = await VhdxRegions.ReadAsync(file, header, cancellationToken).ConfigureAwait(false);
        if (regions.IsSecondCopy)
        {
            context.Warn("the first region table is damaged; the second one is used");
        }

        VhdxMetadata metadata = await VhdxMetadata.ReadAsync(file, regions.Metadata, cancellationToken)
            .ConfigureAwait(false);
        long batBytes = metadata.Geometry.EntriesOf(metadata.DiskSize) * sizeof(ulong);
        if (batBytes > regions.Bat.Length)
        {
            throw BlockException.Invalid(
                "the block allocation table is too small for the disk", regions.Bat.Offset, $"0x{regions.Bat.Length:x}",
                $"at least 0x{batBytes:x}");
        }

        BlockNode? backing = metadata.Parent is null ? null
            : await OpenParentAsync(context, metadata.Parent, metadata.Geometry.SectorSize, cancellationToken)
                .ConfigureAwait(false);
        var image = new VhdxImage(file, backing, header, regions, metadata);
        string creator = await VhdxHeader.ReadCreatorAsync(file, cancellationToken).ConfigureAwait(false);
        return new VhdxDevice(image, context.File, creator, wasDirty && !writable, context.Flags);
    }

    /// <summary>
    /// Does what the log says: in the file, durably, when it may be written; else in memory. Which GUID changes when is
    /// the specification's: the file's before the first change, the log's when nothing is left to do.
    /// </summary>
    private static async ValueTask<(BlockNode File, VhdxHeader Header)> ReplayAsync(
        OpenContext context, VhdxHeader header, bool writable, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        VhdxReplay? replay = await VhdxReplay.FindAsync(file, header, cancellationToken).ConfigureAwait(false);
        if (replay is null)
        {
            context.Warn("the log was begun, but nothing was written to it: the image was not closed properly");
        }

        if (!writable)
        {
            if (replay is null)
            {
                return (file, header);
            }

            var replayed = new VhdxReplayedFile(file);
            var node = new BlockNode(file.Name, file.Driver, replayed);
            await replay.RunAsync(node, cancellationToken).ConfigureAwait(false);
            replayed.Freeze();
            return (new BlockNode(file.Name, file.Driver, replayed, new NodeOptions { ReadOnly = true }), header);
        }

        var headers = new VhdxHeaderWriter(file, header);
        await headers.UpdateAsync(old => old with { FileWriteGuid = Guid.NewGuid() }).ConfigureAwait(false);
        if (replay is not null)
        {
            await replay.RunAsync(file, cancellationToken).ConfigureAwait(false);
            await file.FlushAsync(cancellationToken).ConfigureAwait(false);
        }

        await headers.UpdateAsync(static old => old with { LogGuid = Guid.Empty }).ConfigureAwait(false);
        return (file, headers.Current);
    }

    private static async ValueTask<BlockNode?> OpenParentAsync(
        OpenContext context, VhdxParentLocator locator, int sectorSize, CancellationToken cancellationToken)
    {
        IReadOnlyList<string> candidates = locator.Candidates();
        BlockNode? parent = null;
        for (int i = 0; ; i++)
        {
            try
            {
                parent = await context.OpenChildAsync(
                    "backing", i < candidates.Count ? candidates[i] : null, "vhdx", writable: false, cancellationToken)
                    .ConfigureAwait(false);
                break;
            }
            catch (BlockException e) when (e.Kind == BlockErrorKind.NotFound && !context.HasChildOptions("backing"))
            {
                if (i + 1 < candidates.Count)
                {
                    continue;
                }

                throw new BlockException(BlockErrorKind.NotFound, "the parent of this differencing disk is missing", e)
                {
                    Found = $"none of {string.Join(", ", candidates.Select(name => $"'{Printable(name)}'"))}",
                    Hint = "Name it with backing.file.filename=…, or say backing= to see zeroes in its place.",
                };
            }
        }

        if (parent?.Device is VhdxDevice device)
        {
            CheckParent(context, locator, sectorSize, device, parent.Name);
        }

        return parent;
    }

    private static void CheckParent(
        OpenContext context, VhdxParentLocator locator, int sectorSize, VhdxDevice device, string name)
    {
        if (device.SectorSize != sectorSize)
        {
            throw BlockException.Invalid(
                $"the parent '{name}' has other sectors than this disk", null, $"{device.SectorSize} bytes",
                $"{sectorSize}");
        }

        if (locator.Linkages.Contains(device.DataWriteGuid))
        {
            return;
        }

        string expected = string.Join(" or ", locator.Linkages.Select(guid => guid.ToString("B")));
        if (context.HasChildOptions("backing"))
        {
            context.Warn($"the parent '{name}' has the data write GUID {device.DataWriteGuid:B}, not {expected}: "
                + "it may have changed");
            return;
        }

        throw new BlockException(
            BlockErrorKind.InvalidData,
            $"the parent '{name}' is not the one that this disk was made on, or was changed since")
        {
            Found = $"data write GUID {device.DataWriteGuid:B}",
            Expected = expected,
            Hint = "To use it all the same, name it yourself: backing.file.filename=…",
        };
    }

    private static string Printable(string text) => new([.. text.Select(c => char.IsControl(c) ? '\uFFFD' : c)]);
}
