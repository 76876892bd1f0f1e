using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.Codecs;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qcow;

/// <summary>QEMU's first copy-on-write format, version 1 of qcow. See docs/drivers/qcow.md.</summary>
public sealed class QcowDriver : BlockDriver<QcowOptions>
{
    /// <inheritdoc/>
    public override string Name => "qcow";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "QEMU's first copy-on-write format (qcow, version 1).";

    /// <inheritdoc/>
    public override ImageCreator? Creator { get; } = new QcowCreator();

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input)
    {
        var reader = new SpanReader(input.Head);
        return reader.TryRead(out Be32 magic) && magic == QcowLayout.Magic
            && reader.TryRead(out Be32 version) && version == QcowLayout.Version ? 100 : 0;
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, QcowOptions options, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        QcowHeader header = await QcowHeader.ReadAsync(file, cancellationToken).ConfigureAwait(false);
        BlockNode? backing = header.BackingFile is null && !context.HasChildOptions("backing")
            ? null
            : await ReferredFile.OpenAsync(
                context, "backing", header.BackingFile, null, writable: false, cancellationToken).ConfigureAwait(false);
        var encoding = new QcowMap(header.Geometry);
        RootTable l1 = await RootTable.ReadAsync(
            file, header.L1Offset, header.L1Entries, encoding.Order, cancellationToken).ConfigureAwait(false);
        bool isEncrypted = header.CryptMethod != QcowLayout.CryptNone;
        var image = new ClusterImage(file, backing, header.Geometry, encoding, l1)
        {
            Decoder = DeflateDecoder.Instance,
            IsPlain = !isEncrypted,
        };
        PayloadCipher? cipher = isEncrypted ? OldQcowCipher.Open(context, options.KeySecret) : null;
        try
        {
            return new QcowDevice(header, image, context.Flags.Writable, context.ResolveReference, cipher);
        }
        catch
        {
            cipher?.Dispose();
            throw;
        }
    }
}
