using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qed;

/// <summary>An open QED image: the engine with two-level tables, and what is this format's own: marks, check, growing.</summary>
internal sealed class QedDevice : MappedDevice, ICheckable
{
    private readonly QedHeader _header;
    private readonly ClusterImage _image;
    private readonly ClusterMap _map;
    private readonly QedMarks _marks;
    private readonly Func<string, string> _resolve;
    private readonly SemaphoreSlim _resizeGate = new(1, 1);
    private ClusterWriter? _writer;

    /// <summary>Makes a device for reading.</summary>
    public QedDevice(QedHeader header, ClusterImage image, Func<string, string> resolve)
    {
        _header = header;
        _image = image;
        _map = new ClusterMap(image, header.Size);
        _marks = new QedMarks(image.File, header);
        _resolve = resolve;
        Children = image.Backing is null
            ? [new BlockChild("file", image.File)]
            : [new BlockChild("file", image.File), new BlockChild("backing", image.Backing)];
    }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children { get; }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => _writer is null
        ? BlockCapabilities.Map
        : BlockCapabilities.Map | BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard
            | BlockCapabilities.Resize;

    /// <inheritdoc/>
    public override BlockLimits Limits =>
        BlockLimits.Default with { OptimalTransfer = _header.Geometry.ClusterSize };

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    protected override IWritableExtentMap? WritableMap => _writer;

    /// <summary>Repairs an image that was not closed, and makes the device writable.</summary>
    public async ValueTask OpenForWritingAsync(CancellationToken cancellationToken)
    {
        IReadOnlyList<(long First, long Count)> free = [];
        if (_header.NeedsCheck)
        {
            free = await QedCheck.RepairAsync(_image, _header, cancellationToken).ConfigureAwait(false);
            await _marks.SetNeedsCheckAsync(false).ConfigureAwait(false);
        }

        MetadataMap metadata = TableMap.Note(
            _image, (0, _header.HeaderBytes), (_header.L1Offset, _header.Geometry.L2Size));
        var space = new ClusterSpace(_image.File, _header.Geometry, QedLayout.MaxEnd);
        foreach ((long first, long count) in free)
        {
            space.Return(first << _header.Geometry.ClusterBits, count);
        }

        _writer = new ClusterWriter(
            _image, _map, metadata, space, new FirstTime(_marks.ClearAutoclearAsync),
            new FirstTime(() => _marks.SetNeedsCheckAsync(true)));
    }

    /// <summary>Grows the disk. What appears reads as zeroes, whatever old tables or a longer parent have there.</summary>
    public override async ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        if (_writer is null || newLength < Length)
        {
            return newLength == Length;
        }

        await _resizeGate.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (newLength > Length)
            {
                await GrowAsync(_writer, newLength, cancellationToken).ConfigureAwait(false);
            }

            return newLength == Length;
        }
        finally
        {
            _resizeGate.Release();
        }
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ClusterSize = _header.Geometry.ClusterSize;
        info.DirtyFlag = _header.NeedsCheck && _writer is null;
        if (_header.BackingFile is not null)
        {
            info.BackingFileName = _header.BackingFile;
            info.FullBackingFileName = _resolve(_header.BackingFile);
            info.BackingFormat = _header.BackingFormat;
        }

        return default;
    }

    /// <inheritdoc/>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        // The check reads the file; what is still in memory has to get there first, and room for later is no leak.
        await FlushAsync(cancellationToken).ConfigureAwait(false);
        CheckReport report = await QedCheck.RunAsync(_image, _header, Length, cancellationToken).ConfigureAwait(false);
        if (_writer is { Mapping.IsDone: true })
        {
            report.Leaks = 0;
            report.Problems.RemoveAll(problem => problem.StartsWith("Leak", StringComparison.Ordinal));
        }

        return report;
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await base.CloseAsync().ConfigureAwait(false);
        if (_writer is not null && await _writer.CloseAsync().ConfigureAwait(false))
        {
            await _marks.SetNeedsCheckAsync(false).ConfigureAwait(false);
        }
    }

    private async ValueTask GrowAsync(ClusterWriter writer, long newLength, CancellationToken cancellationToken)
    {
        if (newLength % QedLayout.SectorSize != 0 || newLength > QedHeader.MaxSize(_header.Geometry))
        {
            throw new BlockException(BlockErrorKind.InvalidArgument, "the image cannot have this size")
            {
                Found = $"{newLength}",
                Expected = $"a multiple of 512 up to {QedHeader.MaxSize(_header.Geometry)}",
            };
        }

        await writer.Change.EnsureAsync().ConfigureAwait(false);
        await writer.Mapping.EnsureAsync().ConfigureAwait(false);
        lock (_image.Sync)
        {
            // Entries behind the old end mean nothing, so whatever the file has there must not come to light.
            int needed = (int)_header.Geometry.L1EntriesFor(newLength);
            int known = _image.L1.Count;
            if (needed > known)
            {
                _image.L1.Extend(needed);
            }
        }

        long oldLength = Length;
        await TryZeroAsync(oldLength, newLength - oldLength, ZeroFlags.MayUnmap, cancellationToken)
            .ConfigureAwait(false);
        await writer.FlushAsync(cancellationToken).ConfigureAwait(false);
        await _marks.WriteSizeAsync(newLength).ConfigureAwait(false);
        _map.Length = newLength;
    }
}
