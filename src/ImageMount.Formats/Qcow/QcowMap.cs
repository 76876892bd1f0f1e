using ImageMount.Formats.Mapped;
using ImageMount.Formats.Mapped.TwoLevel;

namespace ImageMount.Formats.Qcow;

/// <summary>
/// Entries of qcow's tables: bare offsets, 0 for none. With the top bit, the cluster is a deflate stream: its bytes
/// count stands above its offset, which may be any.
/// </summary>
internal sealed class QcowMap(ClusterGeometry geometry) : ClusterEncoding
{
    private readonly int _sizeShift = 63 - geometry.ClusterBits;
    private readonly int _sizeMask = geometry.ClusterSize - 1;

    /// <inheritdoc/>
    public override WordOrder Order => WordOrder.BigEndian;

    /// <inheritdoc/>
    public override bool TryGetTable(ulong l1Entry, out long offset)
    {
        offset = (long)l1Entry;
        return l1Entry == 0 || IsPlace(l1Entry);
    }

    /// <inheritdoc/>
    public override ClusterKind Classify(ulong entry, out long hostOffset)
    {
        if ((entry & QcowLayout.CompressedFlag) != 0)
        {
            hostOffset = (long)(entry & ((1UL << _sizeShift) - 1));
            return hostOffset >= QcowLayout.HeaderSize ? ClusterKind.Compressed : ClusterKind.Invalid;
        }

        hostOffset = (long)entry;
        return entry == 0 ? ClusterKind.Unallocated : IsPlace(entry) ? ClusterKind.Data : ClusterKind.Invalid;
    }

    /// <inheritdoc/>
    public override bool TryMakeZero(bool parentCovers, out ulong entry)
    {
        entry = 0;
        return !parentCovers;
    }

    /// <inheritdoc/>
    public override int CompressedLength(ulong entry) => (int)(entry >> _sizeShift) & _sizeMask;

    private static bool IsPlace(ulong offset) =>
        offset is >= QcowLayout.Sector and <= (ulong)QcowLayout.MaxEnd && offset % QcowLayout.Sector == 0;
}
