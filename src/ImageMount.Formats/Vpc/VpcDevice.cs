using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vpc;

/// <summary>A VHD of any type, as a child asks its parent.</summary>
internal interface IVpcDisk
{
    /// <summary>Its footer.</summary>
    VpcFooter Footer { get; }
}

/// <summary>An open dynamic or differencing VHD.</summary>
internal sealed class VpcDevice : MappedDevice, ICheckable, IVpcDisk
{
    private readonly VpcHeader _header;
    private readonly VpcMap _map;
    private readonly bool _writable;
    private readonly List<BlockChild> _children;

    /// <summary>Makes the device.</summary>
    /// <param name="footer">The footer.</param>
    /// <param name="header">The header.</param>
    /// <param name="table">The table.</param>
    /// <param name="backing">The parent, or null.</param>
    /// <param name="space">Room for new blocks when the disk is to be written.</param>
    public VpcDevice(VpcFooter footer, VpcHeader header, BlockTable table, BlockNode? backing, FileSpace? space)
    {
        Footer = footer;
        _header = header;
        _writable = space is not null;
        BlockNode file = table.Layout.Node;
        var bitmaps = new VpcBitmaps(file);
        BlockTableFormat format = space is null
            ? NoFormat.Instance : new VpcFormat(file, footer, header, bitmaps, space);
        _map = new VpcMap(
            new BlockTableMap(table, backing, format, space), bitmaps, footer.Type == VpcType.Differencing);
        _children = [new BlockChild("file", file)];
        if (backing is not null)
        {
            _children.Add(new BlockChild("backing", backing));
        }

        // Whole sectors only: what lies beside a write belongs to the parent until it is written itself.
        Limits = BlockLimits.Default with
        {
            RequestAlignment = VpcLayout.SectorSize,
            OptimalTransfer = header.BlockSize,
        };
    }

    /// <inheritdoc/>
    public VpcFooter Footer { get; }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => _writable
        ? BlockCapabilities.Map | BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard
        : BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    protected override IWritableExtentMap? WritableMap => _writable ? _map : null;

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ClusterSize = _header.BlockSize;
        VpcFacts.Add(info, Footer);
        if (Footer.Type == VpcType.Differencing)
        {
            info.BackingFileName = _header.ParentName;
            info.FullBackingFileName = _map.Backing?.Name;
            info.BackingFormat = "vpc";
            info.FormatSpecific.Add(new("parent-uuid", _header.ParentId.ToString("B")));
        }

        return default;
    }

    /// <inheritdoc/>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        await FlushAsync(cancellationToken).ConfigureAwait(false);
        var report = new CheckReport();
        await VpcFacts.CheckFooterAsync(_map.Blocks.Table.Layout.Node, report, cancellationToken).ConfigureAwait(false);
        if (!_header.IsSound)
        {
            report.Corruption("the checksum of the header of the dynamic disk is wrong");
        }

        await BlockUsage.ScanAsync(_map.Blocks.Table, report, cancellationToken).ConfigureAwait(false);
        return report;
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await base.CloseAsync().ConfigureAwait(false);
        await _map.Blocks.CloseAsync().ConfigureAwait(false);
    }
}

/// <summary>
/// An open fixed VHD: the file without its footer. It is not handed to the kernel (passthrough), which would show the
/// footer behind the disk's last byte, and overwrite it.
/// </summary>
internal sealed class VpcFixedDevice(BlockNode file, VpcFooter footer, long length) : BlockDevice, ICheckable, IVpcDisk
{
    private readonly RegionDevice _disk = new(file, new FileRegion(0, length, IsWhole: false));

    /// <inheritdoc/>
    public VpcFooter Footer => footer;

    /// <inheritdoc/>
    public override long Length => length;

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => _disk.Capabilities;

    /// <inheritdoc/>
    public override BlockLimits Limits => _disk.Limits;

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _disk.Children;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        _disk.ReadAsync(offset, buffer, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken) =>
        _disk.WriteAsync(offset, buffer, flags, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken) =>
        _disk.TryZeroAsync(offset, count, flags, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<bool> TryDiscardAsync(long offset, long count, CancellationToken cancellationToken) =>
        _disk.TryDiscardAsync(offset, count, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken) => _disk.FlushAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken) =>
        _disk.MapAsync(offset, count, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        await _disk.DescribeAsync(info, cancellationToken).ConfigureAwait(false);
        VpcFacts.Add(info, footer);
    }

    /// <inheritdoc/>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        var report = new CheckReport { ImageEndOffset = file.Length };
        await VpcFacts.CheckFooterAsync(file, report, cancellationToken).ConfigureAwait(false);
        return report;
    }
}

/// <summary>What all types have in common.</summary>
internal static class VpcFacts
{
    /// <summary>Adds what the footer says to `info`.</summary>
    public static void Add(DeviceInfo info, VpcFooter footer)
    {
        info.FormatSpecific.Add(new("type", footer.Type.ToString().ToLowerInvariant()));
        info.FormatSpecific.Add(new("creator", footer.CreatorText));
        info.FormatSpecific.Add(new("uuid", footer.UniqueId.ToString("B")));
        info.FormatSpecific.Add(new("cylinders", (long)footer.Cylinders));
        info.FormatSpecific.Add(new("heads", (long)footer.Heads));
        info.FormatSpecific.Add(new("sectors-per-track", (long)footer.SectorsPerTrack));
        info.FormatSpecific.Add(new("current-size", (long)Math.Min(footer.CurrentSize, long.MaxValue)));
    }

    /// <summary>
    /// Reports a copy of the footer that is missing: nothing is at risk, and a crash may leave it so.
    /// </summary>
    public static async ValueTask CheckFooterAsync(
        BlockNode file, CheckReport report, CancellationToken cancellationToken) =>
        await VpcFooter.ReadAsync(file, damage => report.Leak(damage), cancellationToken).ConfigureAwait(false);
}
