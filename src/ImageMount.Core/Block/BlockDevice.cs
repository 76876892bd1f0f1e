using ImageMount.Core.Info;

namespace ImageMount.Core.Block;

/// <summary>
/// The driver author's side of the block layer: a disk of <see cref="Length"/> bytes.
/// </summary>
/// <remarks>
/// Nobody but <see cref="BlockNode"/> calls a device. The node has checked that requests lie inside the disk, are not
/// empty, are aligned as <see cref="Limits"/> asks (a request may end at the device's length, however odd that is), and
/// that writes go only to a device with <see cref="BlockCapabilities.Write"/>. Every member but
/// <see cref="CloseAsync"/> may be called from any number of threads at once. The caller owns the buffer and keeps it
/// untouched until the task completes; a cancelled operation must not complete while anything can still touch it.
/// Failures are <see cref="BlockException"/>, nothing else; "I cannot do that" is <c>false</c> from a <c>Try…</c>.
/// </remarks>
public abstract class BlockDevice
{
    /// <summary>Size of the disk in bytes. Changes only within <see cref="TryResizeAsync"/>.</summary>
    public abstract long Length { get; }

    /// <summary>What the device can do; fixed at open.</summary>
    public virtual BlockCapabilities Capabilities => BlockCapabilities.None;

    /// <summary>What requests must look like; fixed at open.</summary>
    public virtual BlockLimits Limits => BlockLimits.Default;

    /// <summary>Nodes this device reads and writes, by role ("file", "backing", "data-file"); closed by the graph, not by the device.</summary>
    public virtual IReadOnlyList<BlockChild> Children => [];

    /// <summary>Fills the whole buffer with the bytes at <paramref name="offset"/>.</summary>
    public abstract ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken);

    /// <summary>Writes the whole buffer at <paramref name="offset"/>. Fua is passed only to devices with that capability.</summary>
    public virtual ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken) =>
        throw new BlockException(BlockErrorKind.ReadOnly, "this driver cannot write");

    /// <summary>Makes a range read as zeroes. False: not done, and nothing changed; the node then writes zeroes.</summary>
    public virtual ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken) => new(false);

    /// <summary>
    /// Tells the device that the contents of a range are no longer needed. Afterwards the range reads as zeroes or as
    /// before, the same each time. False: nothing was done.
    /// </summary>
    public virtual ValueTask<bool> TryDiscardAsync(long offset, long count, CancellationToken cancellationToken) =>
        new(false);

    /// <summary>
    /// Takes the space for a range from the host, so that later writes to it cannot fail for want of room; what it reads
    /// as does not change. False: this device cannot, and nothing happened.
    /// </summary>
    public virtual ValueTask<bool> TryAllocateAsync(long offset, long count, CancellationToken cancellationToken) =>
        new(false);

    /// <summary>Everything written before the call is durable when the task completes.</summary>
    public virtual ValueTask FlushAsync(CancellationToken cancellationToken) => default;

    /// <summary>State of the first bytes of a range; never more than <paramref name="count"/>.</summary>
    public virtual ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken) =>
        new(new BlockExtent(count, ExtentFlags.Data | ExtentFlags.Present));

    /// <summary>Changes the length. New space reads as zeroes. False: this device cannot.</summary>
    public virtual ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) => new(false);

    /// <summary>The host file that holds exactly this disk's bytes, for passthrough; false when there is none.</summary>
    public virtual bool TryGetHostFile(out HostFileRegion region)
    {
        region = default;
        return false;
    }

    /// <summary>Adds what the device knows of itself: sizes, snapshots, format-specific facts.</summary>
    public virtual ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken) => default;

    /// <summary>
    /// Writes back what is cached, marks the image clean, releases handles. Called once, when no request is in flight.
    /// Handles are released even when it throws.
    /// </summary>
    public virtual ValueTask CloseAsync() => default;
}

/// <summary>A node below another, with the part it plays there.</summary>
/// <param name="Role">"file", "backing", "data-file", "extents.0"…</param>
/// <param name="Node">The node.</param>
public readonly record struct BlockChild(string Role, BlockNode Node);
