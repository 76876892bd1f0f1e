namespace ImageMount.Formats.Mapped.BlockTables;

/// <summary>
/// What a format adds to the changing of its table: marks in the header, counters, bitmaps. The defaults add nothing.
/// Called by <see cref="BlockTableMap"/>; members without "under the lock" may do I/O.
/// </summary>
internal abstract class BlockTableFormat
{
    /// <summary>
    /// False when the format keeps account of parts of a unit: a new unit is then leased only where it is written.
    /// </summary>
    public virtual bool LeasesWholeUnits => true;

    /// <summary>Once, before the first change: what has to be durable before anything else changes.</summary>
    public virtual ValueTask BeginAsync(CancellationToken cancellationToken) => default;

    /// <summary>Writes what stands before the payload of a new unit; the table names it afterwards.</summary>
    /// <param name="place">Where the unit begins in the file.</param>
    /// <param name="from">First byte in the unit that was written.</param>
    /// <param name="count">Bytes that were.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public virtual ValueTask WriteLeadAsync(long place, int from, int count, CancellationToken cancellationToken) =>
        default;

    /// <summary>
    /// Takes a copy of what is to be written beside the table, at the moment at which the table's changes are taken;
    /// under the table cache's lock.
    /// </summary>
    public virtual void Capture()
    {
    }

    /// <summary>Writes what must be durable before the table; a barrier for it and the payload follows.</summary>
    public virtual ValueTask WriteBeforeBarrierAsync(CancellationToken cancellationToken) => default;

    /// <summary>
    /// Writes what must not be durable before the payload; goes out with the table. False: nothing was written.
    /// </summary>
    public virtual ValueTask<bool> WriteAfterBarrierAsync(CancellationToken cancellationToken) => new(false);

    /// <summary>Ends what <see cref="Capture"/> began; under the table cache's lock.</summary>
    public virtual void Complete(bool succeeded)
    {
    }

    /// <summary>After the last flush of a changed image: clears marks. Durable when the task completes.</summary>
    public virtual ValueTask EndAsync() => default;
}

/// <summary>For formats, and disks, that have nothing beside the table.</summary>
internal sealed class NoFormat : BlockTableFormat
{
    /// <summary>The one.</summary>
    public static NoFormat Instance { get; } = new();
}
