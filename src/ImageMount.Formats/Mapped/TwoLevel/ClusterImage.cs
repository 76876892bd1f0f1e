using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>
/// What the parts of a two-level image share: nodes, sizes, the encoding, the tables in memory and the lock over them.
/// </summary>
internal sealed class ClusterImage
{
    /// <summary>Bound of the cached L2 tables: those of 256 GiB with 64 KiB clusters.</summary>
    private const long CacheBytes = 32 << 20;

    public ClusterImage(
        BlockNode file, BlockNode? backing, ClusterGeometry geometry, ClusterEncoding encoding, RootTable l1)
    {
        File = file;
        Backing = backing;
        Geometry = geometry;
        Encoding = encoding;
        L1 = l1;
        L2 = new TableCache(file, Sync, geometry.SliceSize, CacheBytes, encoding.Order);
    }

    /// <summary>
    /// The one lock over everything that changes. Held for memory operations only, never over I/O. Lookups of cached
    /// tables do not take it.
    /// </summary>
    public Lock Sync { get; } = new();

    /// <summary>The image.</summary>
    public BlockNode File { get; }

    /// <summary>The parent, or null.</summary>
    public BlockNode? Backing { get; }

    /// <summary>Sizes.</summary>
    public ClusterGeometry Geometry { get; }

    /// <summary>How entries are written.</summary>
    public ClusterEncoding Encoding { get; }

    /// <summary>The first level, wholly in memory.</summary>
    public RootTable L1 { get; }

    /// <summary>The second level, cached.</summary>
    public TableCache L2 { get; }

    /// <summary>Decodes compressed clusters; null where the format has none.</summary>
    public IUnitDecoder? Decoder { get; init; }

    /// <summary>
    /// True when entries that lead nowhere count as unallocated: reading an image that was not closed, where the format
    /// says so.
    /// </summary>
    public bool IsLenient { get; init; }

    /// <summary>
    /// True when payload lies in the file as the guest wrote it, so that zeroes there are the guest's zeroes. False when
    /// it is encrypted, in whole sectors.
    /// </summary>
    public bool IsPlain { get; init; } = true;

    /// <summary>
    /// True when the parent defines bytes from this guest offset on, so that an unallocated cluster does not just read
    /// as zeroes.
    /// </summary>
    public bool ParentCovers(long guestOffset) => Backing is not null && guestOffset < Backing.Length;

    /// <summary>Where the L2 table is that an L1 entry names; 0 for none.</summary>
    /// <exception cref="BlockException">InvalidData: the entry breaks the format.</exception>
    public long TableOffset(ulong l1Entry, long guestOffset)
    {
        if (Encoding.TryGetTable(l1Entry, out long offset))
        {
            return offset;
        }

        return IsLenient ? 0 : throw BlockException.Invalid(
            "an L1 entry is invalid", L1.Offset + (Geometry.L1Index(guestOffset) * sizeof(ulong)), $"0x{l1Entry:x16}");
    }

    /// <summary>An L2 entry that breaks the format or leads nowhere.</summary>
    public BlockException BadEntry(string what, ulong entry, long guestOffset)
    {
        Encoding.TryGetTable(L1[Geometry.L1Index(guestOffset)], out long table);
        return BlockException.Invalid(
            what, table + (Geometry.L2Index(guestOffset) * sizeof(ulong)), $"0x{entry:x16}",
            $"a cluster in the file, for guest offset 0x{guestOffset:x}");
    }
}
