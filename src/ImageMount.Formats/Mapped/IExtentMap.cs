using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// A format's tables as a function from guest ranges to runs. Formats translate, they do not move bytes: all payload
/// I/O is <see cref="MappedDevice"/>'s, outside every lock of the map. Called from any number of threads at once.
/// </summary>
public interface IExtentMap
{
    /// <summary>Size of the disk in bytes.</summary>
    long Length { get; }

    /// <summary>The parent, or null.</summary>
    BlockNode? Backing { get; }

    /// <summary>
    /// The run that begins at <paramref name="guestOffset"/>, at most <paramref name="count"/> bytes, joined over as
    /// many units as the tables at hand allow. Completes synchronously when they are cached.
    /// </summary>
    ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken);
}

/// <summary>A map that can be changed.</summary>
/// <remarks>
/// Crash rule: a mapping must never become durable before the bytes and the reference counts it relies on. Space that
/// a change sets free is not given out again before the change is durable <b>and</b> the requests that could still use
/// the old mapping have ended (<see cref="MappedDevice.QuiesceAsync"/>).
/// </remarks>
public interface IWritableExtentMap : IExtentMap
{
    /// <summary>
    /// Finds the place for a write that begins at <paramref name="guestOffset"/>. Where the range is stored in a place
    /// of its own, the target has no lease and the caller just writes. Else room is reserved and the target carries a
    /// lease: the caller writes the payload and the lease's edges, then commits or rolls back. While a lease is out,
    /// a prepare that overlaps its guest range waits.
    /// </summary>
    ValueTask<WriteTarget> PrepareWriteAsync(long guestOffset, long count, CancellationToken cancellationToken);

    /// <summary>
    /// Makes as much as it can of the range read as zeroes by changing tables only, from the start of the range.
    /// Returns how many bytes it did: 0 when the range does not begin on, or not cover, a whole unit.
    /// </summary>
    ValueTask<long> ZeroUnitsAsync(long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken);

    /// <summary>Frees the units that lie wholly inside the range. They read as zeroes, or as before, afterwards.</summary>
    ValueTask DiscardUnitsAsync(long guestOffset, long count, CancellationToken cancellationToken);

    /// <summary>Makes all committed mappings durable, and the payload they point to.</summary>
    ValueTask FlushAsync(CancellationToken cancellationToken);

    /// <summary>Changes the length; false where the format cannot.</summary>
    ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken);
}

/// <summary>Where a write goes.</summary>
/// <param name="Node">The node to write to.</param>
/// <param name="HostOffset">Byte offset there of the first byte of the write.</param>
/// <param name="Length">Bytes of the write that go there, at least 1; the caller asks again for the rest.</param>
/// <param name="Lease">What has to be completed and committed, or null for a write in place.</param>
public readonly record struct WriteTarget(BlockNode Node, long HostOffset, long Length, WriteLease? Lease);

/// <summary>
/// Reserved space for guest bytes <see cref="GuestStart"/>…<see cref="GuestEnd"/> that no table points to yet. The
/// write lies inside; the bytes around it (the edges) have to be copied from the old mapping before the commit.
/// </summary>
public abstract class WriteLease
{
    /// <summary>First guest byte that the commit maps to the new place.</summary>
    public long GuestStart { get; protected init; }

    /// <summary>First guest byte after them. May exceed the disk's length in the last unit; edges there are zeroes.</summary>
    public long GuestEnd { get; protected init; }

    /// <summary>Where <see cref="GuestStart"/> goes.</summary>
    public long HostStart { get; protected init; }

    /// <summary>True when the reserved space is known to read as zeroes, so that zero edges need not be written.</summary>
    public bool HostReadsZero { get; protected init; }

    /// <summary>Publishes the mapping: lookups see it from now on; it becomes durable with the next flush.</summary>
    public abstract ValueTask CommitAsync(CancellationToken cancellationToken);

    /// <summary>Gives the space back; the old mapping stands.</summary>
    public abstract void Rollback();
}
