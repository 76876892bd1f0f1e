using ImageMount.Core.Info;

namespace ImageMount.Core.Block;

/// <summary>
/// Shows a part of a node as a disk. Everything passes through with the offset added: a driver that has nothing to add
/// (raw, window, partitions) costs one addition a request.
/// </summary>
public sealed class RegionDevice : BlockDevice
{
    private readonly BlockNode _file;
    private readonly FileRegion _region;
    private readonly BlockCapabilities _capabilities;
    private readonly BlockLimits _limits;
    private readonly BlockChild[] _children;

    /// <summary>Makes a device over a part of a node.</summary>
    public RegionDevice(BlockNode file, FileRegion region)
    {
        _file = file;
        _region = region;
        _children = [new BlockChild("file", file)];
        _capabilities = file.Capabilities;
        if (!region.IsWhole)
        {
            _capabilities &= ~BlockCapabilities.Resize;
        }


        // The node below keeps its own alignment and sizes for everybody; checking them here too would be twice.
        _limits = BlockLimits.Default with { OptimalTransfer = file.Limits.OptimalTransfer };
    }

    /// <inheritdoc/>
    public override long Length => _region.IsWhole ? _file.Length : _region.Length;

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => _capabilities;

    /// <inheritdoc/>
    public override BlockLimits Limits => _limits;

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        _file.ReadAsync(_region.Offset + offset, buffer, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken) =>
        _file.WriteAsync(_region.Offset + offset, buffer, flags, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        await _file.ZeroAsync(_region.Offset + offset, count, flags, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryDiscardAsync(
        long offset, long count, CancellationToken cancellationToken)
    {
        await _file.DiscardAsync(_region.Offset + offset, count, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryAllocateAsync(long offset, long count, CancellationToken cancellationToken) =>
        _file.TryAllocateAsync(_region.Offset + offset, count, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken) => _file.FlushAsync(cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        BlockExtent extent = await _file.MapAsync(_region.Offset + offset, count, cancellationToken)
            .ConfigureAwait(false);

        // The offset to show is the one in the file that the user can find, not in what stands between.
        return (extent.Flags & (ExtentFlags.HostOffset | ExtentFlags.Present)) != ExtentFlags.Present ? extent : extent with
        {
            Flags = extent.Flags | ExtentFlags.HostOffset,
            HostOffset = _region.Offset + offset,
            HostNode = _file,
        };
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) =>
        _region.IsWhole ? _file.TryResizeAsync(newLength, cancellationToken) : new(false);

    /// <inheritdoc/>
    public override bool TryGetHostFile(out HostFileRegion region)
    {
        // The region says where it begins, not where it ends: only a part that reaches to the end is a whole file.
        if (_region.Offset + Length != _file.Length || !_file.TryGetHostFile(out region))
        {
            region = default;
            return false;
        }

        region = region with { Offset = region.Offset + _region.Offset };
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        DeviceInfo below = await _file.DescribeAsync(cancellationToken).ConfigureAwait(false);
        info.ActualSize = below.ActualSize;
    }
}
