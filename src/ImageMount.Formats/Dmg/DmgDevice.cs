using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Dmg;

/// <summary>An open UDIF image: its map on the engine, describing and checking.</summary>
internal sealed class DmgDevice : MappedDevice, ICheckable
{
    private readonly DmgMap _map;
    private readonly DmgTables _tables;
    private readonly DmgSegment[] _segments;
    private readonly IReadOnlyList<BlockChild> _children;

    /// <summary>Makes the device.</summary>
    public DmgDevice(DmgMap map, DmgTables tables, DmgSegment[] segments, IReadOnlyList<BlockChild> children)
    {
        _map = map;
        _tables = tables;
        _segments = segments;
        _children = children;
        foreach (DmgRun run in map.Runs)
        {
            LargestUnit = run.IsCompressed ? Math.Max(LargestUnit, (int)run.Length) : LargestUnit;
        }

        Limits = BlockLimits.Default with { OptimalTransfer = LargestUnit };
    }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <summary>The tables.</summary>
    public DmgTables Tables => _tables;

    /// <summary>The files.</summary>
    public IReadOnlyList<DmgSegment> Segments => _segments;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    private int LargestUnit { get; }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        var kinds = new SortedSet<DmgRunType>();
        foreach (DmgRun run in _map.Runs)
        {
            kinds.Add(run.Type);
        }

        DmgHeader header = _segments[0].Header;
        info.Compressed = LargestUnit > 0;
        info.FormatSpecific.Add(new("runs", kinds.Select(kind => (object)kind.ToString().ToLowerInvariant()).ToList()));
        info.FormatSpecific.Add(new("largest-unit", (long)LargestUnit));
        info.FormatSpecific.Add(new("segments", (long)_segments.Length));
        info.FormatSpecific.Add(new("data-checksum", header.DataChecksum.ToString()));
        info.FormatSpecific.Add(new("master-checksum", header.MasterChecksum.ToString()));
        info.FormatSpecific.Add(new("partitions", _tables.Tables.Select(Describe).ToList()));
        return default;
    }

    /// <inheritdoc/>
    public ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken) =>
        new DmgCheck(this).RunAsync(cancellationToken);

    private static object Describe(DmgTable table) => new Dictionary<string, object>
    {
        ["name"] = table.Name,
        ["offset"] = table.Start,
        ["size"] = table.Length,
        ["checksum"] = table.Checksum.ToString(),
    };
}
