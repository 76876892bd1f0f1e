using System.Buffers;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Interop;

namespace ImageMount.Formats.Compressed.Gzip;

/// <summary>
/// Driver "gzip": what is in a .gz file, read-only, at random: members, BGZF blocks, dictzip chunks, or checkpoints
/// made by decoding the file once.
/// </summary>
public sealed class GzipDriver : BlockDriver<GzipOptions>
{
    private const int Sure = 60;

    /// <inheritdoc/>
    public override string Name => "gzip";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "The content of a gzip file (.gz, BGZF, dictzip), read-only.";

    /// <inheritdoc/>
    public override bool WritesFile => false;

    /// <inheritdoc/>
    public override bool IsWrapper => true;

    /// <summary>
    /// The magic has two bytes only, so the whole header is looked at, and what follows must inflate, as far as it is
    /// at hand.
    /// </summary>
    public override int Probe(in ProbeInput input)
    {
        ReadOnlySpan<byte> head = input.Head;
        if (head.Length < GzipLayout.FixedHeaderSize || head[0] != 0x1f || head[1] != 0x8b
            || !InflateStreamDecoder.IsAvailable)
        {
            return 0;
        }

        byte system = head[9];
        if (head[8] is not (0 or 2 or 4) || system is not (<= 13 or 255))
        {
            return 0;
        }

        try
        {
            GzipHeader? header = GzipHeader.Read(head);
            return header is null ? (head.Length < input.Length ? Sure / 2 : 0)
                : StartsStream(head[header.Length..]) ? Sure : 0;
        }
        catch (BlockException)
        {
            return 0; // Not a header, then.
        }
    }

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, GzipOptions options, CancellationToken cancellationToken)
    {
        if (!InflateStreamDecoder.IsAvailable)
        {
            throw BlockException.Unsupported(
                $"gzip files need {InflateStreamDecoder.FileName}, which could not be loaded",
                $"Install it: apt install {InflateStreamDecoder.DebianPackage}");
        }

        using var scan = new GzipScan(context.File, options, context.Flags.Progress);
        GzipContent content = await scan.RunAsync(cancellationToken).ConfigureAwait(false);
        return new PackedDevice(content, options, context.Flags.Progress);
    }

    private static bool StartsStream(ReadOnlySpan<byte> stored)
    {
        using var inflate = new InflateStreamDecoder();
        byte[] output = ArrayPool<byte>.Shared.Rent(64 << 10);
        try
        {
            while (true)
            {
                NativeDecodeStatus status = inflate.Decode(stored, output, out int taken, out int given);
                stored = stored[taken..];
                if (status != NativeDecodeStatus.More || (taken == 0 && given == 0))
                {
                    return status is NativeDecodeStatus.More or NativeDecodeStatus.End;
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(output);
        }
    }
}
