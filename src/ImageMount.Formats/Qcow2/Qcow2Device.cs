using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>An open qcow2 image: the payload engine with this format's tables, snapshots and facts.</summary>
public sealed class Qcow2Device : MappedDevice, ISnapshotSource, ICheckable
{
    private readonly Qcow2Image _image;
    private readonly Qcow2Map _map;
    private readonly Func<string, string> _resolve;
    private readonly List<Qcow2Snapshot> _snapshots;
    private readonly List<Qcow2Bitmap> _bitmaps;

    private Qcow2Device(
        Qcow2Image image, Qcow2Map map, List<Qcow2Snapshot> snapshots, List<Qcow2Bitmap> bitmaps,
        Func<string, string> resolve)
    {
        _image = image;
        _map = map;
        _resolve = resolve;
        _snapshots = snapshots;
        _bitmaps = bitmaps;
        Snapshots = snapshots.ConvertAll(snapshot => snapshot.Info);
        Children = ListChildren(image);
    }

    /// <inheritdoc/>
    public IReadOnlyList<SnapshotInfo> Snapshots { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children { get; }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits =>
        BlockLimits.Default with { OptimalTransfer = _image.Geometry.ClusterSize };

    /// <summary>The header as it was when the image was opened.</summary>
    public Qcow2Header Header => _image.Header;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    public async ValueTask<BlockDevice> OpenSnapshotAsync(SnapshotInfo snapshot, CancellationToken cancellationToken)
    {
        int index = _snapshots.FindIndex(known => known.Info == snapshot);
        if (index < 0)
        {
            throw new BlockException(BlockErrorKind.NotFound, $"the image has no snapshot '{snapshot.Name}'");
        }

        Qcow2RootTable l1 = await _snapshots[index].ReadL1Async(_image.File, _image.Geometry, cancellationToken)
            .ConfigureAwait(false);
        return new Qcow2SnapshotDevice(_image, l1, snapshot);
    }

    /// <inheritdoc/>
    public ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken) => WritableMap is null
        ? Qcow2Check.RunAsync(_image.Header, _image.File, cancellationToken)
        : throw new BlockException(BlockErrorKind.InUse, "an image that is open for writing cannot be checked")
        {
            Hint = "Open it read-only.",
        };

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        Qcow2Describe.Fill(info, _image, Length, _snapshots, _bitmaps, _resolve);
        return default;
    }

    internal static async ValueTask<Qcow2Device> OpenAsync(
        Qcow2Image image, OpenFlags flags, Qcow2Options options, Func<string, string> resolve,
        CancellationToken cancellationToken)
    {
        Qcow2Header header = image.Header;
        Qcow2RootTable l1 = await Qcow2RootTable.ReadAsync(
            image.File, header.L1Offset, header.L1Entries, cancellationToken).ConfigureAwait(false);
        (List<Qcow2Snapshot> snapshots, long _) = await Qcow2Snapshots.ReadAsync(image.File, header, cancellationToken)
            .ConfigureAwait(false);
        List<Qcow2Bitmap> bitmaps = header.HasConsistentBitmaps
            ? await Qcow2Bitmaps.ReadAsync(image.File, header, cancellationToken).ConfigureAwait(false)
            : [];
        var map = new Qcow2Map(image, l1, header.Size);
        return new Qcow2Device(image, map, snapshots, bitmaps, resolve);
    }

    private static List<BlockChild> ListChildren(Qcow2Image image)
    {
        var children = new List<BlockChild> { new("file", image.File) };
        if (image.DataFile is not null)
        {
            children.Add(new BlockChild("data-file", image.DataFile));
        }

        if (image.Backing is not null)
        {
            children.Add(new BlockChild("backing", image.Backing));
        }

        return children;
    }
}
