namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>What a table entry says of its cluster.</summary>
internal enum ClusterKind : byte
{
    /// <summary>Nothing: the parent answers, or zeroes.</summary>
    Unallocated,

    /// <summary>Reads as zeroes.</summary>
    Zero,

    /// <summary>Stored as it is.</summary>
    Data,

    /// <summary>Stored compressed.</summary>
    Compressed,

    /// <summary>Breaks the format.</summary>
    Invalid,
}

/// <summary>
/// How a format with two levels of 64-bit entries writes them. Stateless but for facts of the header; asked on every
/// lookup, so it does arithmetic only. Whether a place lies inside the file is not its business.
/// </summary>
internal abstract class ClusterEncoding
{
    /// <summary>Byte order of both tables.</summary>
    public abstract WordOrder Order { get; }

    /// <summary>Where the L2 table is that an L1 entry names; 0 for none. False: the entry breaks the format.</summary>
    public abstract bool TryGetTable(ulong l1Entry, out long offset);

    /// <summary>The L1 entry for a table.</summary>
    public virtual ulong MakeTable(long offset) => (ulong)offset;

    /// <summary>What an L2 entry says; the place for stored and compressed clusters.</summary>
    public abstract ClusterKind Classify(ulong entry, out long hostOffset);

    /// <summary>The L2 entry for a stored cluster.</summary>
    public virtual ulong MakeData(long hostOffset) => (ulong)hostOffset;

    /// <summary>The L2 entry for a cluster of zeroes, where there is one.</summary>
    /// <param name="parentCovers">A parent would show through an unallocated entry.</param>
    /// <param name="entry">The entry.</param>
    public abstract bool TryMakeZero(bool parentCovers, out ulong entry);

    /// <summary>Bytes that a compressed cluster takes; 0 when the entry cannot be right.</summary>
    public virtual int CompressedLength(ulong entry) => 0;
}
