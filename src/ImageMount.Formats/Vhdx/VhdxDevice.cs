using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>An open VHDX: its map on the engine, describing, checking and closing.</summary>
internal sealed class VhdxDevice : MappedDevice, ICheckable
{
    private readonly VhdxImage _image;
    private readonly VhdxMap _map;
    private readonly string _creator;
    private readonly bool _isDirty;
    private readonly VhdxWriter? _writer;
    private readonly SemaphoreSlim _resizing = new(1, 1);

    /// <summary>Makes the device.</summary>
    /// <param name="image">What was opened.</param>
    /// <param name="file">The "file" child, without a log replayed in memory.</param>
    /// <param name="creator">The program that made the image.</param>
    /// <param name="isDirty">The log in the file is waiting to be replayed.</param>
    /// <param name="flags">How it was opened.</param>
    public VhdxDevice(VhdxImage image, BlockNode file, string creator, bool isDirty, OpenFlags flags)
    {
        _image = image;
        _map = new VhdxMap(image);
        _creator = creator;
        _isDirty = isDirty;
        _writer = flags.Writable ? new VhdxWriter(image, _map, flags.Discard, QuiesceAsync) : null;
        Children = image.Backing is null
            ? [new("file", file)] : [new("file", file), new("backing", image.Backing)];
    }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => _writer is null
        ? BlockCapabilities.Map
        : BlockCapabilities.Map | BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard
            | BlockCapabilities.Resize;

    /// <inheritdoc/>
    public override BlockLimits Limits => BlockLimits.Default with { OptimalTransfer = _image.Geometry.BlockSize };

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children { get; }

    /// <summary>Logical sector size, bytes.</summary>
    public int SectorSize => _image.Geometry.SectorSize;

    /// <summary>Identity of the disk.</summary>
    public Guid DiskId => _image.Metadata.DiskId;

    /// <summary>What children know this disk's content by.</summary>
    public Guid DataWriteGuid => (_writer?.Session.Headers.Current ?? _image.Header).DataWriteGuid;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    protected override IWritableExtentMap? WritableMap => _writer;

    /// <inheritdoc/>
    public override async ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        if (_writer is null)
        {
            return false;
        }

        await _resizing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await new VhdxResize(_image, _map, _writer).RunAsync(
                newLength,
                async (offset, count) => await TryZeroAsync(offset, count, ZeroFlags.None, cancellationToken)
                    .ConfigureAwait(false),
                cancellationToken).ConfigureAwait(false);
            return true;
        }
        finally
        {
            _resizing.Release();
        }
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await base.CloseAsync().ConfigureAwait(false);
        if (_writer is not { Session.HasBegun: true })
        {
            return;
        }

        await _writer.Flush.RunAsync(CancellationToken.None).ConfigureAwait(false);
        await _writer.Flush.ReapAsync().ConfigureAwait(false);
        await _writer.Session.Log.CloseAsync().ConfigureAwait(false);
        await _writer.Session.Space.TrimAsync().ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        // The check reads the file; what is still in memory has to get there first.
        await FlushAsync(cancellationToken).ConfigureAwait(false);
        return await VhdxCheck.RunAsync(_image, _map.Length, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        VhdxMetadata metadata = _image.Metadata;
        info.ClusterSize = _image.Geometry.BlockSize;
        info.DirtyFlag = _isDirty;
        if (metadata.Parent is { } parent)
        {
            info.BackingFileName = parent.Name;
            info.FullBackingFileName = _image.Backing?.Name;
            info.BackingFormat = "vhdx";
        }

        void Say(string key, object value) => info.FormatSpecific.Add(new(key, value));
        Say(
            "subformat", metadata.Parent is not null ? "differencing"
                : metadata.LeaveBlocksAllocated ? "fixed" : "dynamic");
        Say("logical-sector-size", (long)_image.Geometry.SectorSize);
        Say("physical-sector-size", (long)metadata.PhysicalSectorSize);
        Say("log-size", _image.Header.LogLength);
        Say("virtual-disk-id", metadata.DiskId.ToString("D"));
        Say("data-write-guid", DataWriteGuid.ToString("D"));
        if (metadata.Parent is not null)
        {
            Say("parent-linkage", metadata.Parent.Linkages.Select(guid => (object)guid.ToString("D")).ToList());
        }

        Say("creator", _creator);
        return default;
    }
}
