using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Info;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Parallels;

/// <summary>
/// An open bundle: the current layer, over those that it was made on; the other layers are its snapshots. All files are
/// opened with it, so that a snapshot that is asked for later needs nothing more.
/// </summary>
internal sealed class ParallelsBundle : MappedDevice, ICheckable, ISnapshotSource
{
    private readonly ParallelsDescriptor _descriptor;
    private readonly Dictionary<Guid, ParallelsPart[]> _layers;
    private readonly Dictionary<Guid, BlockNode> _nodes = [];
    private readonly IReadOnlyList<BlockChild> _children;
    private readonly ParallelsLayerMap _map;
    private readonly bool _writable;
    private readonly Lock _lock = new();

    private ParallelsBundle(
        ParallelsDescriptor descriptor, Dictionary<Guid, ParallelsPart[]> layers, IReadOnlyList<BlockChild> children,
        bool writable)
    {
        _descriptor = descriptor;
        _layers = layers;
        _children = children;
        _writable = writable;
        _map = MakeMap(descriptor.Top);
        Snapshots = [.. descriptor.Snapshots.Where(layers.ContainsKey).Select(id => new SnapshotInfo(
            id.ToString("B"), id.ToString("B"), descriptor.Length, 0, DateTimeOffset.UnixEpoch, 0, null))];
        Limits = BlockLimits.Default with
        {
            OptimalTransfer = _map.Parts.Max(part => part.Image?.Header.ClusterSize ?? 0),
        };
    }

    /// <inheritdoc/>
    public IReadOnlyList<SnapshotInfo> Snapshots { get; }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => _writable
        ? BlockCapabilities.Map | BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard
        : BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    protected override IWritableExtentMap? WritableMap => _writable ? _map : null;

    /// <summary>Opens the files that the descriptor names.</summary>
    public static async ValueTask<ParallelsBundle> OpenAsync(OpenContext context, CancellationToken cancellationToken)
    {
        BlockNode file = context.File;
        if (file.Length > ParallelsDescriptor.MaxSize)
        {
            throw BlockException.Limit("the descriptor is too large", file.Length, ParallelsDescriptor.MaxSize);
        }

        using BufferLease text = BufferPool.Shared.Rent((int)file.Length);
        await file.ReadAsync(0, text.Memory, cancellationToken).ConfigureAwait(false);
        ParallelsDescriptor descriptor = ParallelsDescriptor.Parse(text.Memory);
        var children = new List<BlockChild> { new("file", file) };
        var names = new HashSet<string>(StringComparer.Ordinal);
        var layers = new Dictionary<Guid, ParallelsPart[]>();
        for (int i = 0; i < descriptor.Storages.Count; i++)
        {
            ParallelsStorage storage = descriptor.Storages[i];
            foreach (ParallelsFile part in storage.Files)
            {
                if (!names.Add(part.File))
                {
                    throw BlockException.Invalid("the descriptor names a file twice");
                }

                bool writable = context.Flags.Writable && part.Id == descriptor.Top;
                string role = $"images.{children.Count - 1}";
                BlockNode node = await context.OpenChildAsync(role, part.File, "raw", writable, cancellationToken)
                    .ConfigureAwait(false)
                    ?? throw new BlockException(
                        BlockErrorKind.InvalidArgument, $"the disk cannot do without its {role}");
                children.Add(new BlockChild(role, node));
                ParallelsPart opened = await OpenPartAsync(context, storage, part, node, writable, cancellationToken)
                    .ConfigureAwait(false);
                if (!layers.TryGetValue(part.Id, out ParallelsPart[]? parts))
                {
                    layers.Add(part.Id, parts = new ParallelsPart[descriptor.Storages.Count]);
                }

                parts[i] = opened;
            }
        }

        return new ParallelsBundle(descriptor, layers, children, context.Flags.Writable);
    }

    /// <inheritdoc/>
    public ValueTask<BlockDevice> OpenSnapshotAsync(SnapshotInfo snapshot, CancellationToken cancellationToken) =>
        new(new ParallelsLayerDevice(MakeMap(Guid.Parse(snapshot.Id))));

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ClusterSize = Limits.OptimalTransfer == 0 ? null : Limits.OptimalTransfer;
        info.DirtyFlag = _layers.Values.SelectMany(parts => parts).Any(part => part?.Image?.Header.IsUnclean == true);
        info.Snapshots.AddRange(Snapshots);
        info.FormatSpecific.Add(new("top", _descriptor.Top.ToString("B")));
        info.FormatSpecific.Add(new("parts", (long)_descriptor.Storages.Count));
        return default;
    }

    /// <inheritdoc/>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        var report = new CheckReport();
        foreach (ParallelsPart part in _layers.Values.SelectMany(parts => parts))
        {
            if (part?.Image is { } image)
            {
                await image.CheckAsync(report, cancellationToken).ConfigureAwait(false);
            }
        }

        return report;
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await base.CloseAsync().ConfigureAwait(false);
        try
        {
            await _map.CloseAsync().ConfigureAwait(false);
        }
        finally
        {
            foreach (BlockNode node in _nodes.Values)
            {
                await node.CloseAsync().ConfigureAwait(false);
            }
        }
    }

    private static async ValueTask<ParallelsPart> OpenPartAsync(
        OpenContext context, ParallelsStorage storage, ParallelsFile file, BlockNode node, bool writable,
        CancellationToken cancellationToken)
    {
        ParallelsImage? image = file.IsPlain ? null
            : await ParallelsImage.OpenAsync(node, writable, context.Warn, cancellationToken).ConfigureAwait(false);
        long length = image?.Header.DiskSize ?? node.Length;
        return length >= storage.End - storage.Start
            ? new ParallelsPart(storage.Start, storage.End, image, node)
            : throw BlockException.Invalid(
                $"'{node.Name}' is smaller than the descriptor says", null, $"0x{length:x} bytes",
                $"0x{storage.End - storage.Start:x}");
    }

    /// <summary>A layer over those below it; these are shared by all that stand on them.</summary>
    private ParallelsLayerMap MakeMap(Guid layer)
    {
        IReadOnlyList<Guid> chain = _descriptor.ChainOf(layer);
        BlockNode? below = null;
        lock (_lock)
        {
            foreach (Guid id in chain.Skip(1).Reverse())
            {
                if (!_nodes.TryGetValue(id, out BlockNode? node))
                {
                    var device = new ParallelsLayerDevice(new ParallelsLayerMap(PartsOf(id), below));
                    node = new BlockNode(id.ToString("B"), "parallels", device, new NodeOptions { ReadOnly = true });
                    _nodes.Add(id, node);
                }

                below = node;
            }
        }

        return new ParallelsLayerMap(PartsOf(layer), below);
    }

    private ParallelsPart[] PartsOf(Guid layer) =>
        _layers.TryGetValue(layer, out ParallelsPart[]? parts) && !parts.Contains(null!)
            ? parts
            : throw BlockException.Invalid($"the descriptor has no files for the snapshot {layer:B}");
}
