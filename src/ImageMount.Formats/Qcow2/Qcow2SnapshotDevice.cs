using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>
/// The disk as it was when a snapshot was taken, read-only. It has the snapshot's own L1 table and shares everything
/// else with the image: whatever that table reaches has a reference count that counts the snapshot, so writing the
/// image never changes or frees it.
/// </summary>
internal sealed class Qcow2SnapshotDevice : MappedDevice
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Map _map;
    private readonly SnapshotInfo _info;

    public Qcow2SnapshotDevice(Qcow2Image image, RootTable l1, SnapshotInfo info)
    {
        _image = image;
        _info = info;
        Cipher = image.Encryption?.Cipher;
        _map = new Qcow2Map(image, l1, info.DiskSize);
    }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits => _image.Limits;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ClusterSize = _image.Geometry.ClusterSize;
        info.Snapshots.Add(_info);
        return default;
    }
}
