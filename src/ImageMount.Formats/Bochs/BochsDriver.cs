using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Bochs;

/// <summary>Growing disks of Bochs; for reading.</summary>
public sealed class BochsDriver : BlockDriver<BochsOptions>
{
    /// <inheritdoc/>
    public override string Name => "bochs";

    /// <inheritdoc/>
    public override DriverKind Kind => DriverKind.Format;

    /// <inheritdoc/>
    public override string Summary => "Growing disks of Bochs; for reading.";

    /// <inheritdoc/>
    public override bool WritesFile => false;

    /// <inheritdoc/>
    public override int Probe(in ProbeInput input) => input.Head.StartsWith(BochsLayout.Magic) ? 100 : 0;

    /// <inheritdoc/>
    protected override async ValueTask<BlockDevice> OpenAsync(
        OpenContext context, BochsOptions options, CancellationToken cancellationToken)
    {
        ReadOnlyFormat.RefuseWriting(context.Flags, "Bochs disks are only read by this program");
        return new BochsDevice(await BochsMap.ReadAsync(context.File, cancellationToken).ConfigureAwait(false));
    }

    /// <summary>An open disk.</summary>
    private sealed class BochsDevice(BochsMap map) : MappedDevice, ICheckable
    {
        public override BlockCapabilities Capabilities => BlockCapabilities.Map;

        public override BlockLimits Limits { get; } =
            BlockLimits.Default with { OptimalTransfer = map.Header.ExtentSize };

        public override IReadOnlyList<BlockChild> Children { get; } = [new("file", map.File)];

        protected override IExtentMap Map => map;

        public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
        {
            info.FormatSpecific.Add(new("extent-size", (long)map.Header.ExtentSize));
            info.FormatSpecific.Add(new("version", (long)map.Header.Version));
            return default;
        }

        /// <summary>Extents lie inside the file, no two in one place.</summary>
        public ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
        {
            var report = new CheckReport { TotalClusters = map.Header.Extents, AllocatedClusters = 0 };
            var users = new Dictionary<uint, int>();
            for (int extent = 0; extent < map.Header.Extents; extent++)
            {
                uint place = map.Catalog[extent];
                if (place == BochsLayout.NotStored)
                {
                    continue;
                }

                report.AllocatedClusters++;
                if (!users.TryAdd(place, extent))
                {
                    report.Corruption($"extents {users[place]} and {extent} are stored in one place, {place}");
                }

                try
                {
                    report.ImageEndOffset = Math.Max(
                        report.ImageEndOffset ?? 0, map.PlaceOf(extent) + map.Header.PlaceSize);
                }
                catch (BlockException e)
                {
                    report.Corruption(e.Describe());
                }
            }

            return new(report);
        }
    }
}
