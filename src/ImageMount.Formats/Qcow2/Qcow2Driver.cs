using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.Codecs;

namespace ImageMount.Formats.Qcow2;

/// <summary>The qcow2 format: probing and opening. See docs/drivers/qcow2.md.</summary>
public sealed class Qcow2Driver : BlockDriver<Qcow2Options>
{
    /// <inheritdoc/>
    public override string Name => "qcow2";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "QEMU's copy-on-write format, versions 2 and 3.";

    /// <inheritdoc/>
    public override ImageCreator? Creator { get; } = new Qcow2ImageCreator();

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) => Qcow2Header.HasMagic(input.Head) ? 100 : 0;

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, Qcow2Options options, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        Qcow2Header header = await Qcow2Header.ReadAsync(file, cancellationToken).ConfigureAwait(false);
        bool writable = context.Flags.Writable;
        CheckOpenable(header, writable, context);
        BlockNode? dataFile = await OpenDataFileAsync(context, header, writable, cancellationToken)
            .ConfigureAwait(false);
        BlockNode? backing = await OpenBackingAsync(context, header, cancellationToken).ConfigureAwait(false);
        IUnitDecoder decoder = header.CompressionType == 1 ? ZstdDecoder.Instance : DeflateDecoder.Instance;
        Qcow2Encryption? encryption = await Qcow2Encryption.OpenAsync(context, file, header, options, cancellationToken)
            .ConfigureAwait(false);
        try
        {
            var image = new Qcow2Image(file, dataFile, backing, header, decoder, options) { Encryption = encryption };
            return await Qcow2Device.OpenAsync(
                image, context.Flags, options, context.ResolveReference, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            encryption?.Dispose();
            throw;
        }
    }

    private static void CheckOpenable(Qcow2Header header, bool writable, OpenContext context)
    {
        if ((header.Incompatible & Qcow2Incompatible.Corrupt) == 0)
        {
            return;
        }

        if (writable)
        {
            throw new BlockException(BlockErrorKind.InvalidData, "the image is marked corrupt and cannot be written")
            {
                Offset = Qcow2Layout.IncompatibleField,
                Hint = "Open it read-only, or repair it with 'qemu-img check -r all'.",
            };
        }

        context.Warn($"{context.NodeName}: the image is marked corrupt; what is read may be wrong");
    }

    private static async ValueTask<BlockNode?> OpenDataFileAsync(
        OpenContext context, Qcow2Header header, bool writable, CancellationToken cancellationToken)
    {
        if (!header.HasDataFile)
        {
            if (context.HasChildOptions("data-file"))
            {
                throw new BlockException(
                    BlockErrorKind.InvalidArgument, "a data file is given, but the image does not use one");
            }

            return null;
        }

        if (header.DataFile is null && !context.HasChildOptions("data-file"))
        {
            throw BlockException.Invalid("the image uses an external data file but does not name it");
        }

        return await ReferredFile.OpenAsync(
            context, "data-file", header.DataFile, "raw", writable, cancellationToken).ConfigureAwait(false)
            ?? throw new BlockException(BlockErrorKind.InvalidArgument, "the image needs its data file");
    }

    private static async ValueTask<BlockNode?> OpenBackingAsync(
        OpenContext context, Qcow2Header header, CancellationToken cancellationToken)
    {
        if (header.BackingFile is null && !context.HasChildOptions("backing"))
        {
            return null;
        }

        if (context.Flags.NoBacking && !context.HasChildOptions("backing"))
        {
            return MissingParent.Create(header.BackingFile!);
        }

        return await ReferredFile.OpenAsync(
            context, "backing", header.BackingFile, header.BackingFormat, writable: false, cancellationToken)
            .ConfigureAwait(false);
    }
}
