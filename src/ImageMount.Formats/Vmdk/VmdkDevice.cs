using ImageMount.Core.Block;
using ImageMount.Core.Info;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>An open VMDK: its map on the engine, describing, checking and closing.</summary>
internal sealed class VmdkDevice : MappedDevice, ICheckable
{
    private readonly VmdkMap _map;
    private readonly VmdkDescriptor? _descriptor;
    private readonly VmdkContentId? _contentId;
    private readonly IReadOnlyList<BlockChild> _children;
    private readonly bool _writable;

    /// <summary>Makes the device.</summary>
    /// <param name="map">The extents.</param>
    /// <param name="descriptor">The descriptor; null for a sparse extent that has none.</param>
    /// <param name="contentId">Its content id when it can be changed.</param>
    /// <param name="children">All nodes below.</param>
    /// <param name="writable">Guest data may be written.</param>
    public VmdkDevice(
        VmdkMap map, VmdkDescriptor? descriptor, VmdkContentId? contentId, IReadOnlyList<BlockChild> children,
        bool writable)
    {
        _map = map;
        _descriptor = descriptor;
        _contentId = contentId;
        _children = children;
        _writable = writable;
        Limits = BlockLimits.Default with
        {
            OptimalTransfer = map.Extents.Select(PreferredTransfer).Max(),
        };
    }

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities => _writable
        ? BlockCapabilities.Map | BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard
        : BlockCapabilities.Map;

    /// <inheritdoc/>
    public override BlockLimits Limits { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <summary>Content id, or null when there is no descriptor.</summary>
    public uint? Cid => _contentId?.Value ?? _descriptor?.Cid;

    /// <inheritdoc/>
    protected override IExtentMap Map => _map;

    /// <inheritdoc/>
    protected override IWritableExtentMap? WritableMap => _writable ? _map : null;

    /// <summary>
    /// A disk of one flat extent is its file. Whoever writes that file past us would not change the content id, so it
    /// changes here: this may block, once, for a write of a few bytes.
    /// </summary>
    public override bool TryGetHostFile(out HostFileRegion region)
    {
        if (_map.Extents is not [VmdkFlatExtent { Line.Access: VmdkAccess.ReadWrite } flat]
            || flat.Node.Length != flat.Line.FileOffset + flat.Line.Length
            || !flat.Node.TryGetHostFile(out region))
        {
            region = default;
            return false;
        }

        if (_writable)
        {
            _map.ChangeContentIdAsync(CancellationToken.None).AsTask().GetAwaiter().GetResult();
        }

        region = region with { Offset = region.Offset + flat.Line.FileOffset };
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        VmdkSparseExtent[] sparse = [.. _map.Extents.OfType<VmdkSparseExtent>()];
        info.ClusterSize = _map.Extents.FirstOrDefault(extent => extent.GrainSize != 0)?.GrainSize;
        info.DirtyFlag = sparse.Any(extent => extent.Header.IsUnclean);
        if (sparse.Any(extent => extent.Header.IsCompressed))
        {
            info.Compressed = true;
        }

        if (_descriptor is { HasParent: true })
        {
            info.BackingFileName = _descriptor.ParentFileName;
            info.FullBackingFileName = _map.Backing?.Name;
            info.BackingFormat = "vmdk";
        }

        info.FormatSpecific.Add(new("cid", (long)(Cid ?? 0)));
        info.FormatSpecific.Add(new("parent-cid", (long)(_descriptor?.ParentCid ?? VmdkLayout.NoParent)));
        info.FormatSpecific.Add(new("create-type", _descriptor?.CreateType ?? ""));
        info.FormatSpecific.Add(new("extents", _map.Extents.Select(Describe).ToList()));
        return default;
    }

    /// <inheritdoc/>
    public async ValueTask<CheckReport> CheckAsync(CancellationToken cancellationToken)
    {
        // What was written but not flushed is in the cached tables only, and would look like a disagreement.
        await FlushAsync(cancellationToken).ConfigureAwait(false);
        return await VmdkCheck.RunAsync(_map, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask CloseAsync()
    {
        await base.CloseAsync().ConfigureAwait(false);
        Exception? first = null;
        foreach (VmdkExtent extent in _map.Extents)
        {
            try
            {
                await extent.CloseAsync().ConfigureAwait(false);
            }
            catch (Exception e)
            {
                first ??= e; // The others are still to be marked clean.
            }
        }

        if (first is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(first);
        }
    }

    /// <summary>
    /// The grain; but where zeroes are written and not noted in tables, steps of one small grain would take forever.
    /// </summary>
    private static int PreferredTransfer(VmdkExtent extent) =>
        extent.GrainSize is 0 || extent is VmdkSparseExtent { Header.HasZeroedGrains: true }
            ? extent.GrainSize
            : Math.Max(extent.GrainSize, 64 << 10);

    /// <summary>Keys as in qemu-img's JSON; a ZERO extent, which qemu-img does not show, has no file.</summary>
    private static object Describe(VmdkExtent extent)
    {
        var facts = new Dictionary<string, object>
        {
            ["virtual-size"] = extent.GuestEnd - extent.GuestStart,
            ["format"] = extent.Line.TypeName,
        };
        if (extent.Node is { } node)
        {
            facts["filename"] = node.Name;
        }

        if (extent.GrainSize != 0)
        {
            facts["cluster-size"] = (long)extent.GrainSize;
        }

        if (extent is VmdkSparseExtent { Header.IsCompressed: true })
        {
            facts["compressed"] = true;
        }

        return facts;
    }
}
