using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vhdx;

/// <summary>What a lease maps when it is committed.</summary>
internal enum VhdxLeaseKind
{
    /// <summary>Whole blocks, to new places.</summary>
    Blocks,

    /// <summary>Sectors of a block that gets its place with them.</summary>
    FirstSectors,

    /// <summary>Sectors of a block that is present in part.</summary>
    MoreSectors,
}

/// <summary>Reserved room for whole blocks, or for sectors of one block.</summary>
internal sealed class VhdxLease : WriteLease
{
    private readonly VhdxWriter _writer;

    public VhdxLease(
        VhdxWriter writer, VhdxLeaseKind kind, LeasesInFlight.Hold hold, long start, long end, long host,
        bool hostReadsZero)
    {
        _writer = writer;
        Kind = kind;
        Hold = hold;
        GuestStart = start;
        GuestEnd = end;
        HostStart = host;
        HostReadsZero = hostReadsZero;
    }

    /// <summary>What is mapped.</summary>
    public VhdxLeaseKind Kind { get; }

    /// <summary>The range that others wait for: whole blocks where the block itself changes.</summary>
    public LeasesInFlight.Hold Hold { get; }

    /// <summary>True when the room belonged to the block before (an unmapped block that kept its place).</summary>
    public bool IsOldPlace { get; init; }

    /// <inheritdoc/>
    public override ValueTask CommitAsync(CancellationToken cancellationToken) => _writer.CommitAsync(this);

    /// <inheritdoc/>
    public override void Rollback() => _writer.Rollback(this);
}
