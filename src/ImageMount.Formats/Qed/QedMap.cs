using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qed;

/// <summary>Entries of QED's tables ("Tables"): bare offsets of clusters behind the header, 0 for none, 1 for zeroes.</summary>
internal sealed class QedMap(QedHeader header) : ClusterEncoding
{
    private readonly ulong _mask = (ulong)header.Geometry.ClusterSize - 1;
    private readonly ulong _first = (ulong)header.HeaderBytes;

    /// <inheritdoc/>
    public override WordOrder Order => WordOrder.LittleEndian;

    /// <inheritdoc/>
    public override bool TryGetTable(ulong l1Entry, out long offset)
    {
        offset = (long)l1Entry;
        return l1Entry == 0 || IsPlace(l1Entry);
    }

    /// <inheritdoc/>
    public override ClusterKind Classify(ulong entry, out long hostOffset)
    {
        hostOffset = (long)entry;
        return entry switch
        {
            0 => ClusterKind.Unallocated,
            QedLayout.ZeroCluster => ClusterKind.Zero,
            _ => IsPlace(entry) ? ClusterKind.Data : ClusterKind.Invalid,
        };
    }

    /// <inheritdoc/>
    public override bool TryMakeZero(bool parentCovers, out ulong entry)
    {
        entry = QedLayout.ZeroCluster;
        return true;
    }

    private bool IsPlace(ulong offset) => (offset & _mask) == 0 && offset >= _first && offset <= QedLayout.MaxEnd;
}
