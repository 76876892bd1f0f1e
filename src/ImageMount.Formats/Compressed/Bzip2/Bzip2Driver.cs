using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Bzip2;

/// <summary>
/// Driver "bzip2": what is in a .bz2 file, read-only, at random by block; several streams are one content.
/// </summary>
public sealed class Bzip2Driver : BlockDriver<Bzip2Options>
{
    /// <inheritdoc/>
    public override string Name => "bzip2";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "The content of a bzip2 file (.bz2), read-only.";

    /// <inheritdoc/>
    public override bool WritesFile => false;

    /// <inheritdoc/>
    public override bool IsWrapper => true;

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input)
    {
        const int Needed = Bzip2Layout.StreamHeaderSize + 8;
        if (input.Head.Length < Needed || !Bzip2Layout.IsStreamHeader(input.Head))
        {
            return 0;
        }

        ulong magic = BinaryPrimitives.ReadUInt64BigEndian(input.Head[Bzip2Layout.StreamHeaderSize..]) >> 16;
        return magic is Bzip2Layout.BlockMagic or Bzip2Layout.EndMagic ? 90 : 0;
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, Bzip2Options options, CancellationToken cancellationToken)
    {
        if (!Bzip2StreamDecoder.IsAvailable)
        {
            throw BlockException.Unsupported(
                $"bzip2 files need {Bzip2StreamDecoder.FileName}, which could not be loaded",
                $"Install it: apt install {Bzip2StreamDecoder.DebianPackage}");
        }

        Bzip2Content content = await new Bzip2Scan(context.File, options, context.Flags.Progress)
            .RunAsync(cancellationToken).ConfigureAwait(false);
        return new PackedDevice(content, options, context.Flags.Progress);
    }
}
