using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Vdi;

/// <summary>An open VDI: the flat table's map on the engine, describing and checking.</summary>
internal sealed class VdiDevice : MappedDevice, ICheckable
{
    private readonly BlockTableMap _map;
    private readonly VdiFormat? _format;
    private readonly List<BlockChild> _children;

    /// <summary>Makes the device.</summary>
    /// <param name="header">The header.</param>
    /// <param name="table">The table.</param>
    /// <param name="backing">The parent, or null.</param>
    /// <param name="space">Room for new blocks when the disk is to be written.</param>
    public VdiDevice(VdiHeader header, BlockTable table, BlockNode? backing, FileSpace? space)
    {
        Header = header;
        BlockNode file = table.Layout.Node;
        _format = space is null ? null : new VdiFormat(file, header, space);
        _map = new BlockTableMap(table, backing, _format ?? (BlockTableFormat)NoFormat.Instance, space);
        _children = [new BlockChild("file", file)];
        if (backing is not null)
        {
            _children.Add(new BlockChild("backing", backing));
        }

        Limits = BlockLimits.Default with { OptimalTransfer = header.BlockSize };
    }

    /// <summary>The header as it was read.</summary>
    public VdiHeader Header { get; }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => _format is null
        ? BlockCapabilities.Map
        : BlockCapabilities.Map | BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard;

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    protected override IWritableExtentMap? WritableMap => _format is null ? null : _map;

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ClusterSize = Header.BlockSize;
        info.FullBackingFileName = _map.Backing?.Name;
        info.FormatSpecific.Add(new("type", Header.Type.ToString().ToLowerInvariant()));
        info.FormatSpecific.Add(new("uuid", Header.CreateId.ToString("B")));
        info.FormatSpecific.Add(new("uuid-last-snapshot", (_format?.ModifyId ?? Header.ModifyId).ToString("B")));
        if (Header.HasParent)
        {
            info.FormatSpecific.Add(new("uuid-link", Header.LinkId.ToString("B")));
            info.FormatSpecific.Add(new("uuid-parent", Header.ParentModifyId.ToString("B")));
        }

        return default;
    }

    /// <inheritdoc/>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        await FlushAsync(cancellationToken).ConfigureAwait(false); // So that the header's counter is that of the table.
        return await VdiCheck.RunAsync(_map.Table, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await base.CloseAsync().ConfigureAwait(false);
        await _map.CloseAsync().ConfigureAwait(false);
    }
}
