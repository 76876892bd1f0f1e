using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>Room for guest units that no L2 entry points to yet. See <see cref="Qcow2Writer"/>.</summary>
internal sealed class Qcow2Lease : WriteLease
{
    private readonly Qcow2Writer _writer;

    public Qcow2Lease(
        Qcow2Writer writer, LeasesInFlight.Hold hold, long guestStart, long guestEnd, long hostStart,
        Qcow2Allocation fresh)
    {
        _writer = writer;
        Hold = hold;
        GuestStart = guestStart;
        GuestEnd = guestEnd;
        HostStart = hostStart;
        Fresh = fresh;
        HostReadsZero = fresh.ReadsZero;
    }

    /// <summary>The clusters that nobody else may map meanwhile.</summary>
    public LeasesInFlight.Hold Hold { get; }

    /// <summary>
    /// Clusters allocated for it; none when the place was there before (a preallocated zero cluster, say).
    /// </summary>
    public Qcow2Allocation Fresh { get; }

    /// <inheritdoc/>
    public override ValueTask CommitAsync(CancellationToken cancellationToken) => _writer.CommitAsync(this);

    /// <inheritdoc/>
    public override void Rollback() => _writer.Rollback(this);
}
