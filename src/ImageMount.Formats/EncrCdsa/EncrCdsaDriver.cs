using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Secrets;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.EncrCdsa;

/// <summary>
/// Encrypted disk images of macOS: the content is usually a UDIF image, which the graph opens on top. For reading.
/// </summary>
public sealed class EncrCdsaDriver : BlockDriver<EncrCdsaOptions>
{
    /// <inheritdoc/>
    public override string Name => "encrcdsa";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "Encrypted Apple disk images, version 2; for reading.";

    /// <inheritdoc/>
    public override bool WritesFile => false;

    /// <inheritdoc/>
    public override bool IsWrapper => true;

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) =>
        input.Head.StartsWith(EncrCdsaLayout.Magic) || input.Tail.EndsWith(EncrCdsaLayout.Version1Magic) ? 100 : 0;

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, EncrCdsaOptions options, CancellationToken cancellationToken)
    {
        ReadOnlyFormat.RefuseWriting(context.Flags, "encrypted disk images are only read by this program");
        EncrCdsaHeader header = await EncrCdsaHeader.ReadAsync(context.File, cancellationToken).ConfigureAwait(false);
        Secret passphrase = context.Flags.Secrets.Passphrase(options.KeySecret, context.NodeName);
        Secret keys = await EncrCdsaKeys.UnlockAsync(context.File, header, passphrase, cancellationToken)
            .ConfigureAwait(false);
        return new EncrCdsaDevice(context.File, header, keys);
    }
}
