using ImageMount.Core.Block;
using ImageMount.Core.Info;

namespace ImageMount.Formats.Split;

/// <summary>Several nodes, one behind the other, as one disk. A request that crosses a border is cut there.</summary>
internal sealed class SplitDevice : BlockDevice
{
    private readonly BlockNode[] _parts;
    private readonly long[] _ends;

    /// <summary>Makes the device over its parts, in order.</summary>
    public SplitDevice(IReadOnlyList<BlockNode> parts)
    {
        // Empty parts have no bytes; they are still closed and shown.
        _parts = [.. parts.Where(part => part.Length > 0)];
        _ends = new long[_parts.Length];
        long end = 0;
        for (int i = 0; i < _parts.Length; i++)
        {
            if (_parts[i].Length > long.MaxValue - end)
            {
                throw BlockException.Invalid("the parts together are larger than any disk");
            }

            _ends[i] = end += _parts[i].Length;
        }

        Length = end;
        Children = [.. parts.Select((part, i) => new BlockChild(i == 0 ? "file" : $"parts.{i + 1}", part))];
        Capabilities = parts.Aggregate(
            ~BlockCapabilities.Resize, (common, part) => common & (part.Capabilities | BlockCapabilities.Map));
        if ((Capabilities & BlockCapabilities.Write) == 0)
        {
            Capabilities = BlockCapabilities.Map; // One part that cannot be written, and none is.
        }
    }

    /// <inheritdoc/>
    public override long Length { get; }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children { get; }

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        int part = Find(offset);
        return offset + buffer.Length <= _ends[part]
            ? _parts[part].ReadAsync(offset - Start(part), buffer, cancellationToken)
            : ReadAcrossAsync(part, offset, buffer, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        int part = Find(offset);
        return offset + buffer.Length <= _ends[part]
            ? _parts[part].WriteAsync(offset - Start(part), buffer, flags, cancellationToken)
            : WriteAcrossAsync(part, offset, buffer, flags, cancellationToken);
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        for (int part = Find(offset); count > 0; part++)
        {
            long step = Math.Min(count, _ends[part] - offset);
            await _parts[part].ZeroAsync(offset - Start(part), step, flags, cancellationToken).ConfigureAwait(false);
            offset += step;
            count -= step;
        }

        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryDiscardAsync(
        long offset, long count, CancellationToken cancellationToken)
    {
        for (int part = Find(offset); count > 0; part++)
        {
            long step = Math.Min(count, _ends[part] - offset);
            await _parts[part].DiscardAsync(offset - Start(part), step, cancellationToken).ConfigureAwait(false);
            offset += step;
            count -= step;
        }

        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        foreach (BlockNode part in _parts)
        {
            await part.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        int part = Find(offset);
        return await _parts[part]
            .MapAsync(offset - Start(part), Math.Min(count, _ends[part] - offset), cancellationToken)
            .ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        long size = 0;
        foreach (BlockNode part in _parts)
        {
            DeviceInfo below = await part.DescribeAsync(cancellationToken).ConfigureAwait(false);
            size += below.ActualSize ?? 0;
        }

        info.ActualSize = size;
        info.FormatSpecific.Add(new("parts", (long)Children.Count));
    }

    private async ValueTask ReadAcrossAsync(
        int part, long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        for (; !buffer.IsEmpty; part++)
        {
            int step = (int)Math.Min(buffer.Length, _ends[part] - offset);
            await _parts[part].ReadAsync(offset - Start(part), buffer[..step], cancellationToken).ConfigureAwait(false);
            offset += step;
            buffer = buffer[step..];
        }
    }

    private async ValueTask WriteAcrossAsync(
        int part, long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        for (; !buffer.IsEmpty; part++)
        {
            int step = (int)Math.Min(buffer.Length, _ends[part] - offset);
            await _parts[part].WriteAsync(offset - Start(part), buffer[..step], flags, cancellationToken)
                .ConfigureAwait(false);
            offset += step;
            buffer = buffer[step..];
        }
    }

    private long Start(int part) => part == 0 ? 0 : _ends[part - 1];

    /// <summary>The part that an offset inside the disk lies in.</summary>
    private int Find(long offset)
    {
        int index = Array.BinarySearch(_ends, offset + 1);
        return index >= 0 ? index : ~index;
    }
}
