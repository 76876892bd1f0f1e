using ImageMount.Core.Block;

namespace ImageMount.Formats.Dmg;

/// <summary>A file of the image.</summary>
/// <param name="Node">The file.</param>
/// <param name="Header">Its trailer.</param>
internal sealed record DmgSegment(BlockNode Node, DmgHeader Header);

/// <summary>
/// The data fork of the whole image, which may lie in several files: where a place in it is. As a device it is those
/// parts one after the other, for units that begin in one file and end in the next.
/// </summary>
internal sealed class DmgFork : BlockDevice
{
    private readonly DmgSegment[] _segments;
    private readonly BlockNode _joined;

    /// <summary>Makes the fork.</summary>
    /// <param name="segments">All files of the image, in order; their parts of the fork follow one another.</param>
    public DmgFork(DmgSegment[] segments)
    {
        _segments = segments;
        DmgSegment last = segments[^1];
        Length = segments.Length == 1
            ? last.Node.Length - last.Header.DataOffset // Not all writers count the fork's length rightly.
            : last.Header.RunningOffset + last.Header.DataLength;
        _joined = new BlockNode(segments[0].Node.Name, "dmg", this, new NodeOptions { ReadOnly = true });
    }

    /// <summary>The files.</summary>
    public IReadOnlyList<DmgSegment> Segments => _segments;

    /// <summary>Bytes of the fork that the files hold.</summary>
    public override long Length { get; }

    /// <summary>Where the byte at an offset is, and how many bytes from there on are in the same file.</summary>
    public (BlockNode Node, long HostOffset, long Count) Locate(long offset)
    {
        if (_segments.Length == 1)
        {
            return (_segments[0].Node, _segments[0].Header.DataOffset + offset, Length - offset);
        }

        int low = 0;
        for (int high = _segments.Length - 1; low < high;)
        {
            int middle = (low + high + 1) / 2;
            (low, high) = _segments[middle].Header.RunningOffset <= offset ? (middle, high) : (low, middle - 1);
        }

        DmgHeader header = _segments[low].Header;
        long inside = offset - header.RunningOffset;
        return (_segments[low].Node, header.DataOffset + inside, header.DataLength - inside);
    }

    /// <summary>Where a unit can be read in one piece.</summary>
    public (BlockNode Node, long HostOffset) LocateUnit(long offset, int count)
    {
        (BlockNode node, long hostOffset, long available) = Locate(offset);
        return available >= count ? (node, hostOffset) : (_joined, offset);
    }

    /// <inheritdoc/>
    public override async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (!buffer.IsEmpty)
        {
            (BlockNode node, long hostOffset, long available) = Locate(offset);
            int count = (int)Math.Min(available, buffer.Length);
            await node.ReadAsync(hostOffset, buffer[..count], cancellationToken).ConfigureAwait(false);
            offset += count;
            buffer = buffer[count..];
        }
    }
}
