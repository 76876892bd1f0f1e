namespace ImageMount.Formats.Mapped.TwoLevel;

/// <summary>Room for neighbouring clusters of one slice that no entry points to yet.</summary>
internal sealed class ClusterLease : WriteLease
{
    private readonly ClusterWriter _writer;

    public ClusterLease(ClusterWriter writer, LeasesInFlight.Hold hold, in ClusterSpace.Room room, bool readsZero)
    {
        _writer = writer;
        Hold = hold;
        GuestStart = hold.Start;
        GuestEnd = hold.End;
        HostStart = room.Host;
        Clusters = room.Clusters;
        HostReadsZero = readsZero;
    }

    /// <summary>The guest range that others wait for.</summary>
    public LeasesInFlight.Hold Hold { get; }

    /// <summary>How many clusters.</summary>
    public long Clusters { get; }

    /// <inheritdoc/>
    public override ValueTask CommitAsync(CancellationToken cancellationToken) => _writer.CommitAsync(this);

    /// <inheritdoc/>
    public override void Rollback() => _writer.Rollback(this);
}
