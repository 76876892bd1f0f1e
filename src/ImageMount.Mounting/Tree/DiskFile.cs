using ImageMount.Core.Block;

namespace ImageMount.Mounting.Tree;

/// <summary>
/// A file whose bytes are a disk, or a window on it (a partition). Requests go straight to the node; ends are clamped
/// here, because a file may be asked for more than it has and a node may not.
/// </summary>
/// <remarks>Any number of threads at once. A request that the node completes synchronously allocates nothing.</remarks>
public sealed class DiskFile : TreeNode
{
    private const long WholeDisk = -1;

    private readonly long _size;
    private readonly DiskFilePolicy _policy;
    private readonly SemaphoreSlim _resizing = new(1, 1);

    internal DiskFile(string name, TreeDirectory? parent, BlockNode node, DiskFilePolicy policy)
        : base(name, parent)
    {
        Node = node;
        _size = WholeDisk;
        _policy = policy;
    }

    internal DiskFile(
        string name, TreeDirectory? parent, BlockNode node, DiskFilePolicy policy, long offset, long size)
        : base(name, parent)
    {
        Node = node;
        Offset = offset;
        _size = size;
        _policy = policy;
    }

    /// <summary>The disk.</summary>
    public BlockNode Node { get; }

    /// <summary>First byte of the window on the disk.</summary>
    public long Offset { get; }

    /// <summary>Bytes.</summary>
    public long Length => _size == WholeDisk ? Node.Length : _size;

    /// <summary>True for disk.raw, false for a partition.</summary>
    public bool IsWholeDisk => _size == WholeDisk;

    /// <summary>True when it may be written.</summary>
    public bool CanWrite => !_policy.ReadOnly && Node.CanWrite;

    /// <summary>True when writing past its end makes the disk larger.</summary>
    public bool CanGrow => _policy.Growable && IsWholeDisk && CanWrite;

    /// <summary>Who else shows the same bytes, and what was written by whom.</summary>
    public CoherenceState Coherence { get; } = new();

    /// <summary>True when both files show some of the same bytes.</summary>
    public bool Overlaps(DiskFile other) =>
        ReferenceEquals(Node, other.Node) && Offset < other.Offset + other.Length && other.Offset < Offset + Length;

    /// <summary>
    /// Fills the buffer from <paramref name="offset"/>; the count is short only at the end of the file.
    /// </summary>
    public ValueTask<int> ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        int count = (int)Math.Clamp(Length - offset, 0, buffer.Length);
        if (count == 0 || offset < 0)
        {
            return new(0);
        }

        ValueTask task = Node.ReadAsync(Offset + offset, buffer[..count], cancellationToken);
        return task.IsCompletedSuccessfully ? new(count) : CountAsync(task, count);
    }

    /// <summary>
    /// Writes at <paramref name="offset"/>; answers how many bytes fitted: fewer than given only when the file ends (0:
    /// nothing fits) and may not grow.
    /// </summary>
    public ValueTask<int> WriteAsync(
        long offset, ReadOnlyMemory<byte> data, WriteFlags flags, CancellationToken cancellationToken)
    {
        if (!CanWrite)
        {
            throw new BlockException(BlockErrorKind.ReadOnly, $"{Path} is read-only");
        }

        int count = (int)Math.Clamp(Length - offset, 0, data.Length);
        if (count < data.Length && CanGrow && offset >= 0)
        {
            return GrowAndWriteAsync(offset, data, flags, cancellationToken);
        }

        if (count == 0 || offset < 0)
        {
            return new(0);
        }

        Coherence.Wrote();
        ValueTask task = Node.WriteAsync(Offset + offset, data[..count], flags, cancellationToken);
        return task.IsCompletedSuccessfully ? new(count) : CountAsync(task, count);
    }

    /// <summary>Makes the part of the range that lies in the file read as zeroes.</summary>
    public async ValueTask ZeroAsync(long offset, long count, bool mayFreeSpace, CancellationToken cancellationToken)
    {
        long inside = Math.Clamp(Length - offset, 0, count);
        if (inside > 0)
        {
            Coherence.Wrote();
            ZeroFlags flags = mayFreeSpace && _policy.Discard ? ZeroFlags.MayUnmap : ZeroFlags.None;
            await Node.ZeroAsync(Offset + offset, inside, flags, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>
    /// The first byte at or after <paramref name="offset"/> that is data (<paramref name="wantData"/>) or belongs to a
    /// hole; the end of the file counts as a hole. -1: there is none.
    /// </summary>
    public async ValueTask<long> SeekAsync(long offset, bool wantData, CancellationToken cancellationToken)
    {
        long length = Length;
        if (offset < 0 || offset >= length)
        {
            return -1;
        }

        while (offset < length)
        {
            cancellationToken.ThrowIfCancellationRequested();
            BlockExtent extent = await Node.MapAsync(Offset + offset, length - offset, cancellationToken)
                .ConfigureAwait(false);
            bool isHole = extent.IsZero || (extent.Flags & ExtentFlags.Present) == 0;
            if (isHole != wantData)
            {
                return offset;
            }

            offset += extent.Length;
        }

        return wantData ? -1 : length;
    }

    /// <summary>Everything written before the call is durable when it completes.</summary>
    public ValueTask FlushAsync(CancellationToken cancellationToken) => Node.FlushAsync(cancellationToken);

    /// <summary>
    /// Makes the disk at least <paramref name="length"/> bytes long (rounded up to sectors of 512). False: it cannot.
    /// </summary>
    public async ValueTask<bool> GrowAsync(long length, CancellationToken cancellationToken)
    {
        const long Sector = 512;
        if (length <= Length)
        {
            return true;
        }

        if (!CanGrow || length > long.MaxValue - Sector)
        {
            return false;
        }

        await _resizing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return length <= Length
                || await Node.TryResizeAsync((length + Sector - 1) & -Sector, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _resizing.Release();
        }
    }

    private static async ValueTask<int> CountAsync(ValueTask task, int count)
    {
        await task.ConfigureAwait(false);
        return count;
    }

    private async ValueTask<int> GrowAndWriteAsync(
        long offset, ReadOnlyMemory<byte> data, WriteFlags flags, CancellationToken cancellationToken)
    {
        if (offset > long.MaxValue - data.Length
            || !await GrowAsync(offset + data.Length, cancellationToken).ConfigureAwait(false))
        {
            return 0;
        }

        Coherence.Wrote();
        await Node.WriteAsync(offset, data, flags, cancellationToken).ConfigureAwait(false);
        return data.Length;
    }
}

/// <summary>What may be done with the disk files of a mount.</summary>
/// <param name="ReadOnly">No writes, whatever the node could do.</param>
/// <param name="Growable">Writing past the end grows the disk.</param>
/// <param name="Discard">Punched holes may free space; otherwise they only read as zeroes.</param>
public readonly record struct DiskFilePolicy(bool ReadOnly, bool Growable, bool Discard);
