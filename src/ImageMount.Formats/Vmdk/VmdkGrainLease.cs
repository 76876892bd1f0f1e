using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>Reserved room for neighbouring grains of one grain table.</summary>
internal sealed class VmdkGrainLease : WriteLease
{
    private readonly VmdkSparseWriter _writer;
    private readonly LeasedRanges.Range _range;

    /// <summary>Makes a lease.</summary>
    /// <param name="writer">Who gave it.</param>
    /// <param name="range">The guest range that others wait for.</param>
    /// <param name="tableIndex">The grain table.</param>
    /// <param name="firstEntry">Its first entry that changes.</param>
    /// <param name="grains">How many change.</param>
    /// <param name="host">Where the first grain goes, bytes.</param>
    /// <param name="hostReadsZero">The room was never used.</param>
    public VmdkGrainLease(
        VmdkSparseWriter writer, LeasedRanges.Range range, int tableIndex, int firstEntry, int grains, long host,
        bool hostReadsZero)
    {
        _writer = writer;
        _range = range;
        TableIndex = tableIndex;
        FirstEntry = firstEntry;
        Grains = grains;
        GuestStart = range.Start;
        GuestEnd = range.End;
        HostStart = host;
        HostReadsZero = hostReadsZero;
    }

    /// <summary>The grain table.</summary>
    public int TableIndex { get; }

    /// <summary>Its first entry that changes.</summary>
    public int FirstEntry { get; }

    /// <summary>How many entries change.</summary>
    public int Grains { get; }

    /// <summary>The guest range that others wait for.</summary>
    public LeasedRanges.Range Range => _range;

    /// <inheritdoc/>
    public override ValueTask CommitAsync(CancellationToken cancellationToken) =>
        _writer.CommitAsync(this, cancellationToken);

    /// <inheritdoc/>
    public override void Rollback() => _writer.Rollback(this);
}
