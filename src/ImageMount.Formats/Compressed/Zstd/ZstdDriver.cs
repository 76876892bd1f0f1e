using ImageMount.Core.Bits;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Formats.Mapped.Codecs;

namespace ImageMount.Formats.Compressed.Zstd;

/// <summary>
/// Driver "zstd": what is in a .zst file, read-only, at random by frame; several frames are one content.
/// </summary>
public sealed class ZstdDriver : BlockDriver<ZstdOptions>
{
    /// <inheritdoc/>
    public override string Name => "zstd";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "The content of a zstd file (.zst, seekable or not), read-only.";

    /// <inheritdoc/>
    public override bool WritesFile => false;

    /// <inheritdoc/>
    public override bool IsWrapper => true;

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input)
    {
        // Skippable frames may come first, and their own magics are weak: only a frame behind them counts.
        ReadOnlySpan<byte> head = input.Head;
        while (true)
        {
            var reader = new SpanReader(head);
            if (!reader.TryRead(out Le32 magic))
            {
                return 0;
            }

            if (magic.Value == ZstdLayout.FrameMagic)
            {
                return IsFrame(head) ? 80 : 0;
            }

            if ((magic.Value & ZstdLayout.SkippableMask) != ZstdLayout.SkippableMagic
                || !reader.TryRead(out Le32 size) || !reader.TryTake((int)Math.Min(size.Value, int.MaxValue), out _))
            {
                return 0;
            }

            head = head[reader.Position..];
        }
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, ZstdOptions options, CancellationToken cancellationToken)
    {
        ZstdDecoder.RequireLibrary();
        ZstdContent content = await new ZstdScan(context.File, options, context.Flags.Progress)
            .RunAsync(cancellationToken).ConfigureAwait(false);
        return new PackedDevice(content, options, context.Flags.Progress);
    }

    /// <summary>The header is valid, and so is that of the first block.</summary>
    private static bool IsFrame(ReadOnlySpan<byte> head)
    {
        ZstdFrameHeader header;
        try
        {
            header = ZstdFrameHeader.Read(head);
        }
        catch (BlockException e)
        {
            return e.Kind == BlockErrorKind.NotSupported; // A dictionary: to be refused by name.
        }

        ReadOnlySpan<byte> block = head[header.Size..];
        if (block.Length < ZstdLayout.BlockHeaderSize)
        {
            return false;
        }

        int fields = block[0] | (block[1] << 8) | (block[2] << 16);
        return ((fields >> 1) & 3) != 3 && fields >> 3 <= ZstdLayout.MaxBlockSize;
    }
}
