using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Xz;

/// <summary>
/// Driver "xz": what is in an .xz file, read-only, at random by block; several streams are one content.
/// </summary>
public sealed class XzDriver : BlockDriver<XzOptions>
{
    /// <inheritdoc/>
    public override string Name => "xz";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "The content of an .xz file, read-only.";

    /// <inheritdoc/>
    public override bool WritesFile => false;

    /// <inheritdoc/>
    public override bool IsWrapper => true;

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input)
    {
        if (!input.Head.StartsWith(XzLayout.HeaderMagic))
        {
            // The older format has no magic; it is taken to be meant only where the name says so too.
            return input.FileName.EndsWith(".lzma", StringComparison.OrdinalIgnoreCase)
                && XzHeader.LooksLikeLzma(input.Head) ? 30 : 0;
        }

        return !XzStreamDecoder.IsAvailable || XzHeader.ReadHeader(input.Head) is not null ? 90 : 0;
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, XzOptions options, CancellationToken cancellationToken)
    {
        if (!XzStreamDecoder.IsAvailable)
        {
            throw BlockException.Unsupported(
                $"xz files need {XzStreamDecoder.FileName}, which could not be loaded",
                $"Install it: apt install {XzStreamDecoder.DebianPackage}");
        }

        XzContent content = await new XzScan(context.File, options).RunAsync(cancellationToken).ConfigureAwait(false);
        return new PackedDevice(content, options, context.Flags.Progress);
    }
}
