using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;

namespace ImageMount.Mounting.Reports;

/// <summary>One line of a map: a range whose parts have everything in common.</summary>
/// <param name="Start">First byte on the disk.</param>
/// <param name="Extent">Its state; the length is that of the whole range.</param>
public readonly record struct MapLine(long Start, BlockExtent Extent);

/// <summary>Where the bytes of a disk are, in the schema of `qemu-img map --output=json` (MapEntry).</summary>
public static class MapReport
{
    private const int PieceSize = 32 << 10;

    /// <summary>The ranges of a disk (or a part of it), neighbours with the same state merged.</summary>
    public static async IAsyncEnumerable<MapLine> LinesAsync(
        BlockNode disk, long from, long to, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        MapLine? pending = null;
        for (long at = from; at < to;)
        {
            BlockExtent extent = await disk.MapAsync(at, to - at, cancellationToken).ConfigureAwait(false);
            extent = await ToFileAsync(extent, cancellationToken).ConfigureAwait(false);
            if (pending is { } line && Continues(line, extent))
            {
                pending = line with { Extent = line.Extent with { Length = line.Extent.Length + extent.Length } };
            }
            else
            {
                if (pending is { } finished)
                {
                    yield return finished;
                }

                pending = new MapLine(at, extent);
            }

            at += extent.Length;
        }

        if (pending is { } last)
        {
            yield return last;
        }
    }

    /// <summary>
    /// An offset is of use only in a file that the user can find: what an image is wrapped in is looked through, and
    /// bytes that are compressed there have no offset at all.
    /// </summary>
    private static async ValueTask<BlockExtent> ToFileAsync(BlockExtent extent, CancellationToken cancellationToken)
    {
        for (int depth = 0; depth < GraphLimits.MaxDepth && (extent.Flags & ExtentFlags.HostOffset) != 0
            && extent.HostNode is { Children.Count: > 0 } host; depth++)
        {
            BlockExtent below = await host.MapAsync(extent.HostOffset, extent.Length, cancellationToken)
                .ConfigureAwait(false);
            ExtentFlags flags = extent.Flags | (below.Flags & ExtentFlags.Compressed);
            extent = (below.Flags & ExtentFlags.HostOffset) != 0
                ? extent with
                {
                    Length = below.Length,
                    Flags = flags,
                    HostOffset = below.HostOffset,
                    HostNode = below.HostNode,
                }
                : extent with
                {
                    Length = below.Length,
                    Flags = flags & ~ExtentFlags.HostOffset,
                    HostOffset = 0,
                    HostNode = null,
                };
        }

        return extent;
    }

    /// <summary>The map as JSON, in pieces, so that it is never in memory as a whole.</summary>
    public static async IAsyncEnumerable<ReadOnlyMemory<byte>> JsonAsync(
        BlockNode disk, long from, long to, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var text = new StringBuilder("[");
        bool first = true;
        await foreach (MapLine line in LinesAsync(disk, from, to, cancellationToken).ConfigureAwait(false))
        {
            if (!first)
            {
                text.Append(",\n");
            }

            first = false;
            Append(text, line);
            if (text.Length >= PieceSize)
            {
                yield return Encoding.UTF8.GetBytes(text.ToString());
                text.Clear();
            }
        }

        text.Append("]\n");
        yield return Encoding.UTF8.GetBytes(text.ToString());
    }

    private static void Append(StringBuilder text, in MapLine line)
    {
        BlockExtent extent = line.Extent;
        text.Append(
            CultureInfo.InvariantCulture,
            $"{{ \"start\": {line.Start}, \"length\": {extent.Length}, \"depth\": {extent.Depth}");
        text.Append(", \"present\": ").Append(Bool(extent, ExtentFlags.Present));
        text.Append(", \"zero\": ").Append(Bool(extent, ExtentFlags.Zero));
        text.Append(", \"data\": ").Append(Bool(extent, ExtentFlags.Data));
        if ((extent.Flags & ExtentFlags.Compressed) != 0)
        {
            text.Append(", \"compressed\": true");
        }

        if ((extent.Flags & ExtentFlags.HostOffset) != 0)
        {
            text.Append(CultureInfo.InvariantCulture, $", \"offset\": {extent.HostOffset}");
        }

        text.Append('}');
    }

    private static string Bool(in BlockExtent extent, ExtentFlags flag) =>
        (extent.Flags & flag) != 0 ? "true" : "false";

    private static bool Continues(in MapLine line, in BlockExtent next)
    {
        BlockExtent last = line.Extent;
        return last.Flags == next.Flags
            && last.Depth == next.Depth
            && ((last.Flags & ExtentFlags.HostOffset) == 0
                || (ReferenceEquals(last.HostNode, next.HostNode) && last.HostOffset + last.Length == next.HostOffset));
    }
}
