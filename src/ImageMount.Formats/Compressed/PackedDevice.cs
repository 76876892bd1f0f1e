using System.Globalization;
using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Compressed;

/// <summary>
/// The unpacked content of a compressed file, read-only, at random. What the four formats share: units that fit are
/// decoded by <see cref="MappedDevice"/> (in parallel, ahead of readers, kept while there is room), larger ones by the
/// spool.
/// </summary>
internal sealed class PackedDevice : MappedDevice, ICheckable
{
    private readonly PackedContent _content;
    private readonly PackedMap _map;
    private readonly BlockNode _spool;
    private readonly BlockChild[] _children;

    /// <summary>Makes the device.</summary>
    public PackedDevice(PackedContent content, PackedOptions options, IProgress<OpenProgress>? progress)
    {
        _content = content;
        _children = [new BlockChild("file", content.File)];
        var settings = new SpoolSettings(options.SpoolDirectory, options.SpoolLimit, options.Verify, progress);
        _spool = new BlockNode(
            content.File.Name, "spool", new SpoolDevice(content, options.SpoolAbove, settings),
            new NodeOptions { ReadOnly = true });
        _map = new PackedMap(content, options.SpoolAbove, _spool);
    }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => BlockCapabilities.Map;

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    public override async ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        MappedRun run = await _map.LookupAsync(offset, count, cancellationToken).ConfigureAwait(false);
        return new BlockExtent(run.Length, run.Kind == RunKind.Zero
            ? ExtentFlags.Zero | ExtentFlags.Present
            : ExtentFlags.Data | ExtentFlags.Present | ExtentFlags.Compressed);
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        PackedIndex index = _content.Index;
        info.Compressed = true;
        info.FormatSpecific.Add(new("units", (long)index.Count));
        long largest = 0;
        for (int i = 0; i < index.Count; i++)
        {
            largest = index[i].IsZero ? largest : Math.Max(largest, index[i].Length);
        }

        info.FormatSpecific.Add(new("largest-unit", largest));
        info.FormatSpecific.Add(new("index-memory", index.Bytes));
        _content.Describe(info);
        return default;
    }

    /// <summary>Decodes everything, and so compares every checksum.</summary>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        var report = new CheckReport { TotalClusters = _content.Index.Count, CompressedClusters = 0 };
        for (int i = 0; i < _content.Index.Count; i++)
        {
            PackedUnit unit = _content.Index[i];
            if (unit.IsZero)
            {
                continue;
            }

            report.CompressedClusters++;
            try
            {
                using var feed = new UnitFeed(_content, i);
                await feed.RunAsync(unit.Length, static (_, _) => { }, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException e) when (e.Kind == BlockErrorKind.InvalidData)
            {
                report.Corruption(string.Create(
                    CultureInfo.InvariantCulture, $"unit {i} (content from 0x{unit.GuestOffset:x}): {e.Describe()}"));
            }
            catch (BlockException e)
            {
                report.Error(e.Describe());
            }
        }

        report.AllocatedClusters = report.CompressedClusters;
        return report;
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await base.CloseAsync().ConfigureAwait(false);
        await _spool.CloseAsync().ConfigureAwait(false);
    }
}
