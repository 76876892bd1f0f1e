using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.BlockTables;

namespace ImageMount.Formats.Parallels;

/// <summary>An open image: the flat table's map on the engine, describing and checking.</summary>
internal sealed class ParallelsDevice : MappedDevice, ICheckable
{
    private readonly ParallelsImage _image;
    private readonly BlockTableMap _map;
    private readonly bool _writable;

    /// <summary>Makes the device.</summary>
    public ParallelsDevice(ParallelsImage image, bool writable)
    {
        _image = image;
        _map = image.MakeMap(null);
        _writable = writable;
        Limits = BlockLimits.Default with { OptimalTransfer = image.Header.ClusterSize };
    }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => _writable
        ? BlockCapabilities.Map | BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard
        : BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => [new BlockChild("file", _image.File)];

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    protected override IWritableExtentMap? WritableMap => _writable ? _map : null;

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ClusterSize = _image.Header.ClusterSize;
        info.DirtyFlag = _image.Header.IsUnclean;
        info.FormatSpecific.Add(new("version", _image.Header.IsVersion2 ? 2L : 1L));
        if (_image.Extension is { Bitmaps.Count: > 0 } extension)
        {
            info.FormatSpecific.Add(new("dirty-bitmaps", extension.Bitmaps.Select(bitmap => (object)
                new Dictionary<string, object>
                {
                    ["id"] = bitmap.Id.ToString("B"),
                    ["granularity"] = bitmap.Granularity,
                }).ToList()));
        }

        return default;
    }

    /// <inheritdoc/>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        var report = new CheckReport();
        await _image.CheckAsync(report, cancellationToken).ConfigureAwait(false);
        return report;
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await base.CloseAsync().ConfigureAwait(false);
        await _map.CloseAsync().ConfigureAwait(false);
    }
}
