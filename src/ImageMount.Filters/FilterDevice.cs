using ImageMount.Core.Block;
using ImageMount.Core.Info;

namespace ImageMount.Filters;

/// <summary>
/// A filter that passes everything through; a filter overrides what it is about. The host file is not passed on:
/// requests that bypass the filter would not be filtered.
/// </summary>
public abstract class FilterDevice : BlockDevice
{
    private readonly BlockChild[] _children;

    /// <summary>Makes a filter over a node.</summary>
    protected FilterDevice(BlockNode file)
    {
        File = file;
        _children = [new BlockChild("file", file)];
        Limits = BlockLimits.Default with { OptimalTransfer = file.Limits.OptimalTransfer };
    }

    /// <summary>The node below.</summary>
    protected BlockNode File { get; }

    /// <inheritdoc/>
    public override long Length => File.Length;

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => File.Capabilities;

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        File.ReadAsync(offset, buffer, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken) =>
        File.WriteAsync(offset, buffer, flags, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        await File.ZeroAsync(offset, count, flags, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryDiscardAsync(
        long offset, long count, CancellationToken cancellationToken)
    {
        await File.DiscardAsync(offset, count, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken) => File.FlushAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken) =>
        File.MapAsync(offset, count, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) =>
        File.TryResizeAsync(newLength, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        DeviceInfo below = await File.DescribeAsync(cancellationToken).ConfigureAwait(false);
        info.ActualSize = below.ActualSize;
    }
}
