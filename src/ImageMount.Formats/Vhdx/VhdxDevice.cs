using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>An open VHDX: its map on the engine, describing, checking and closing.</summary>
internal sealed class VhdxDevice : MappedDevice
{
    private readonly VhdxImage _image;
    private readonly VhdxMap _map;
    private readonly string _creator;
    private readonly bool _isDirty;

    /// <summary>Makes the device.</summary>
    /// <param name="image">What was opened.</param>
    /// <param name="file">The "file" child, without a log replayed in memory.</param>
    /// <param name="creator">The program that made the image.</param>
    /// <param name="isDirty">The log in the file is waiting to be replayed.</param>
    public VhdxDevice(VhdxImage image, BlockNode file, string creator, bool isDirty)
    {
        _image = image;
        _map = new VhdxMap(image);
        _creator = creator;
        _isDirty = isDirty;
        Children = image.Backing is null
            ? [new("file", file)] : [new("file", file), new("backing", image.Backing)];
    }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits => BlockLimits.Default with { OptimalTransfer = _image.Geometry.BlockSize };

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children { get; }

    /// <summary>Logical sector size, bytes.</summary>
    public int SectorSize => _image.Geometry.SectorSize;

    /// <summary>Identity of the disk.</summary>
    public Guid DiskId => _image.Metadata.DiskId;

    /// <summary>What children know this disk's content by.</summary>
    public Guid DataWriteGuid => _image.Header.DataWriteGuid;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

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
        Say("subformat", metadata.Parent is not null ? "differencing" : metadata.LeaveBlocksAllocated ? "fixed" : "dynamic");
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
