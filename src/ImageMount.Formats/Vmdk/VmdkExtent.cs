using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// A part of the disk. Offsets are the disk's guest offsets, ranges lie inside the part: <see cref="VmdkMap"/> has seen
/// to that. Called from any number of threads at once, except for closing.
/// </summary>
internal abstract class VmdkExtent(long guestStart, VmdkExtentLine line)
{
    /// <summary>First guest byte.</summary>
    public long GuestStart { get; } = guestStart;

    /// <summary>First guest byte after the extent.</summary>
    public long GuestEnd { get; } = guestStart + line.Length;

    /// <summary>What the descriptor says of it.</summary>
    public VmdkExtentLine Line { get; } = line;

    /// <summary>The file, or null for zeroes.</summary>
    public abstract BlockNode? Node { get; }

    /// <summary>Unit of allocation, bytes; 0 where there is none.</summary>
    public virtual int GrainSize => 0;

    /// <summary>Why the extent's own nature forbids writing, or null.</summary>
    public abstract string? WhyReadOnly { get; }

    /// <summary>Why guest data is not written here, or null: by nature, or because the descriptor says so.</summary>
    public string? WhyNotWritten => WhyReadOnly ?? Line.Access switch
    {
        VmdkAccess.ReadWrite => null,
        VmdkAccess.ReadOnly => "the descriptor says RDONLY",
        _ => "the descriptor says NOACCESS",
    };

    /// <summary>The run at an offset if the tables for it are at hand.</summary>
    public abstract bool TryLookup(long guestOffset, long count, out MappedRun run);

    /// <summary>Brings the table for an offset to hand.</summary>
    public virtual ValueTask LoadAsync(long guestOffset, CancellationToken cancellationToken) => default;

    /// <summary>Finds the place for a write; see <see cref="IWritableExtentMap.PrepareWriteAsync"/>.</summary>
    public abstract ValueTask<WriteTarget> PrepareWriteAsync(
        long guestOffset, long count, CancellationToken cancellationToken);

    /// <summary>Zeroes the start of a range without bounce buffers; returns how many bytes, 0 for "write zeroes".</summary>
    public abstract ValueTask<long> ZeroAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken);

    /// <summary>Gives the space of what is stored for the start of a range back to the host; returns the bytes looked at.</summary>
    public abstract ValueTask<long> DiscardAsync(long guestOffset, long count, CancellationToken cancellationToken);

    /// <summary>Makes everything written durable.</summary>
    public abstract ValueTask FlushAsync(CancellationToken cancellationToken);

    /// <summary>Marks the extent as properly closed, after the last flush.</summary>
    public virtual ValueTask CloseAsync() => default;
}

/// <summary>FLAT and VMFS extents: a file, or part of one, as it is ("Simple Extents").</summary>
internal sealed class VmdkFlatExtent : VmdkExtent
{
    private readonly BlockNode _node;
    private bool _written;

    /// <summary>Makes the extent; its file must hold all of it.</summary>
    public VmdkFlatExtent(long guestStart, VmdkExtentLine line, BlockNode node)
        : base(guestStart, line)
    {
        if (line.FileOffset > node.Length || line.Length > node.Length - line.FileOffset)
        {
            throw BlockException.Invalid(
                $"the extent file '{line.FileName}' is too short", line.FileOffset,
                $"{node.Length} bytes", $"{line.Length} from 0x{line.FileOffset:x} on");
        }

        _node = node;
    }

    /// <inheritdoc/>
    public override BlockNode Node => _node;

    /// <inheritdoc/>
    public override string? WhyReadOnly => null;

    /// <inheritdoc/>
    public override bool TryLookup(long guestOffset, long count, out MappedRun run)
    {
        run = MappedRun.Data(count, _node, ToHost(guestOffset));
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask<WriteTarget> PrepareWriteAsync(
        long guestOffset, long count, CancellationToken cancellationToken)
    {
        Volatile.Write(ref _written, true);
        return new(new WriteTarget(_node, ToHost(guestOffset), count, null));
    }

    /// <inheritdoc/>
    public override async ValueTask<long> ZeroAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        Volatile.Write(ref _written, true);
        await _node.ZeroAsync(
            ToHost(guestOffset), count, mayUnmap ? ZeroFlags.MayUnmap : ZeroFlags.None, cancellationToken)
            .ConfigureAwait(false);
        return count;
    }

    /// <inheritdoc/>
    public override async ValueTask<long> DiscardAsync(
        long guestOffset, long count, CancellationToken cancellationToken)
    {
        Volatile.Write(ref _written, true);
        await _node.DiscardAsync(ToHost(guestOffset), count, cancellationToken).ConfigureAwait(false);
        return count;
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken) =>
        Volatile.Read(ref _written) ? _node.FlushAsync(cancellationToken) : default;

    private long ToHost(long guestOffset) => guestOffset - GuestStart + Line.FileOffset;
}

/// <summary>ZERO extents: they read as zeroes and have no place for anything else.</summary>
internal sealed class VmdkZeroExtent(long guestStart, VmdkExtentLine line) : VmdkExtent(guestStart, line)
{
    /// <inheritdoc/>
    public override BlockNode? Node => null;

    /// <inheritdoc/>
    public override string WhyReadOnly => "a ZERO extent has no place for data";

    /// <inheritdoc/>
    public override bool TryLookup(long guestOffset, long count, out MappedRun run)
    {
        run = MappedRun.Zero(count);
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask<WriteTarget> PrepareWriteAsync(
        long guestOffset, long count, CancellationToken cancellationToken) =>
        throw new InvalidOperationException("the map refuses writes to extents that say why");

    /// <inheritdoc/>
    public override ValueTask<long> ZeroAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken) => new(count);

    /// <inheritdoc/>
    public override ValueTask<long> DiscardAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        new(count);

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken) => default;
}
