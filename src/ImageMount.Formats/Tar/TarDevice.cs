using ImageMount.Core.Block;
using ImageMount.Core.Info;

namespace ImageMount.Formats.Tar;

/// <summary>A file in an archive: a window on the archive, for reading.</summary>
internal sealed class TarDevice(BlockNode file, TarMember member, int memberCount) : BlockDevice
{
    private readonly BlockChild[] _children = [new("file", file)];

    /// <inheritdoc/>
    public override long Length => member.Size;

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => file.Capabilities & BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits =>
        BlockLimits.Default with { OptimalTransfer = file.Limits.OptimalTransfer };

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        file.ReadAsync(member.Offset + offset, buffer, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        BlockExtent extent = await file.MapAsync(member.Offset + offset, count, cancellationToken)
            .ConfigureAwait(false);
        return (extent.Flags & (ExtentFlags.HostOffset | ExtentFlags.Present | ExtentFlags.Compressed))
            != ExtentFlags.Present ? extent : extent with
            {
                Flags = extent.Flags | ExtentFlags.HostOffset,
                HostOffset = member.Offset + offset,
                HostNode = file,
            };
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.FormatSpecific.Add(new("member", member.Name));
        info.FormatSpecific.Add(new("member-offset", member.Offset));
        info.FormatSpecific.Add(new("files", (long)memberCount));
        return default;
    }
}
