using System.Globalization;
using System.Text;
using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// The disk as a row of extents: finds the one for an offset and asks it. Also keeps the content id: before the first
/// change after opening, the descriptor gets a new one, so that children of the old content can tell.
/// </summary>
internal sealed class VmdkMap : IWritableExtentMap
{
    private readonly VmdkExtent[] _extents;
    private readonly VmdkContentId? _contentId;

    /// <summary>Makes the map.</summary>
    /// <param name="extents">Extents in guest order, without gaps; at least one.</param>
    /// <param name="backing">The parent, or null.</param>
    /// <param name="contentId">Where the content id is, when the disk is writable and has one.</param>
    public VmdkMap(VmdkExtent[] extents, BlockNode? backing, VmdkContentId? contentId)
    {
        _extents = extents;
        Backing = backing;
        _contentId = contentId;
    }

    /// <inheritdoc/>
    public long Length => _extents[^1].GuestEnd;

    /// <inheritdoc/>
    public BlockNode? Backing { get; }

    /// <summary>Extents in guest order.</summary>
    public IReadOnlyList<VmdkExtent> Extents => _extents;

    /// <inheritdoc/>
    public ValueTask<MappedRun> LookupAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        VmdkExtent extent = Find(guestOffset);
        count = Math.Min(count, extent.GuestEnd - guestOffset);
        if (extent.Line.Access == VmdkAccess.None)
        {
            throw NoAccess(extent);
        }

        return extent.TryLookup(guestOffset, count, out MappedRun run)
            ? new(run)
            : LookupSlowlyAsync(extent, guestOffset, count, cancellationToken);
    }

    /// <inheritdoc/>
    public ValueTask<WriteTarget> PrepareWriteAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        VmdkExtent extent = Find(guestOffset);
        CheckWritable(extent);
        count = Math.Min(count, extent.GuestEnd - guestOffset);
        return _contentId is null || _contentId.IsFresh
            ? extent.PrepareWriteAsync(guestOffset, count, cancellationToken)
            : PrepareFirstAsync(_contentId, extent, guestOffset, count, cancellationToken);
    }

    /// <inheritdoc/>
    public async ValueTask<long> ZeroUnitsAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken)
    {
        MappedRun run = await LookupAsync(guestOffset, count, cancellationToken).ConfigureAwait(false);
        if (run.Kind == RunKind.Zero || (run.Kind == RunKind.Parent && Backing is null))
        {
            return run.Length;
        }

        VmdkExtent extent = Find(guestOffset);
        CheckWritable(extent);
        await ChangeContentIdAsync(cancellationToken).ConfigureAwait(false);
        return await extent.ZeroAsync(
            guestOffset, Math.Min(count, extent.GuestEnd - guestOffset), mayUnmap, cancellationToken)
            .ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask DiscardUnitsAsync(long guestOffset, long count, CancellationToken cancellationToken)
    {
        long end = guestOffset + count;
        while (guestOffset < end)
        {
            VmdkExtent extent = Find(guestOffset);
            long part = Math.Min(end, extent.GuestEnd) - guestOffset;
            if (extent.WhyNotWritten is null)
            {
                await ChangeContentIdAsync(cancellationToken).ConfigureAwait(false);
                part = await extent.DiscardAsync(guestOffset, part, cancellationToken).ConfigureAwait(false);
            }

            guestOffset += part;
        }
    }

    /// <inheritdoc/>
    public async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        foreach (VmdkExtent extent in _extents)
        {
            await extent.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken) => new(false);

    /// <summary>Gives the disk a new content id, once, durably.</summary>
    public ValueTask ChangeContentIdAsync(CancellationToken cancellationToken) =>
        _contentId is null || _contentId.IsFresh ? default : _contentId.ChangeAsync(cancellationToken);

    private static async ValueTask<MappedRun> LookupSlowlyAsync(
        VmdkExtent extent, long guestOffset, long count, CancellationToken cancellationToken)
    {
        while (true)
        {
            await extent.LoadAsync(guestOffset, cancellationToken).ConfigureAwait(false);
            if (extent.TryLookup(guestOffset, count, out MappedRun run))
            {
                return run;
            }
        }
    }

    private static async ValueTask<WriteTarget> PrepareFirstAsync(
        VmdkContentId contentId, VmdkExtent extent, long guestOffset, long count, CancellationToken cancellationToken)
    {
        await contentId.ChangeAsync(cancellationToken).ConfigureAwait(false);
        return await extent.PrepareWriteAsync(guestOffset, count, cancellationToken).ConfigureAwait(false);
    }

    private static void CheckWritable(VmdkExtent extent)
    {
        if (extent.WhyNotWritten is { } why)
        {
            throw new BlockException(BlockErrorKind.ReadOnly, $"this part of the disk cannot be written: {why}")
            {
                Offset = extent.GuestStart,
            };
        }
    }

    private static BlockException NoAccess(VmdkExtent extent) =>
        new(BlockErrorKind.PermissionDenied, "this part of the disk is marked NOACCESS in the descriptor")
        {
            Offset = extent.GuestStart,
        };

    private VmdkExtent Find(long guestOffset)
    {
        int low = 0;
        int high = _extents.Length - 1;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (guestOffset < _extents[middle].GuestEnd)
            {
                high = middle;
            }
            else
            {
                low = middle + 1;
            }
        }

        return _extents[low];
    }
}

/// <summary>
/// The content id in the descriptor ("The Header"). It is replaced in place, digit for digit, so that the descriptor
/// keeps its length and nearly always one sector changes.
/// </summary>
/// <param name="node">The file with the descriptor, writable.</param>
/// <param name="offset">Where the digits are.</param>
/// <param name="digits">How many there are.</param>
/// <param name="value">What they say now.</param>
internal sealed class VmdkContentId(BlockNode node, long offset, int digits, uint value)
{
    private readonly SemaphoreSlim _changing = new(1, 1);
    private uint _value = value;
    private bool _isFresh;

    /// <summary>The content id.</summary>
    public uint Value => Volatile.Read(ref _value);

    /// <summary>True once it was changed.</summary>
    public bool IsFresh => Volatile.Read(ref _isFresh);

    /// <summary>Changes it, once; durable when the task completes.</summary>
    public async ValueTask ChangeAsync(CancellationToken cancellationToken)
    {
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_isFresh)
            {
                return;
            }

            uint next = Next(_value, digits);
            byte[] text = Encoding.ASCII.GetBytes(next.ToString("x8", CultureInfo.InvariantCulture)[(8 - digits)..]);
            await node.WriteAsync(offset, text, WriteFlags.None, cancellationToken).ConfigureAwait(false);
            await node.FlushAsync(cancellationToken).ConfigureAwait(false);
            Volatile.Write(ref _value, next);
            Volatile.Write(ref _isFresh, true);
        }
        finally
        {
            _changing.Release();
        }
    }

    private static uint Next(uint old, int digits)
    {
        uint mask = uint.MaxValue >> (32 - (4 * digits));
        while (true)
        {
            uint next = (uint)Random.Shared.NextInt64(1L << 32) & mask;
            if (next != old && next != VmdkLayout.NoParent)
            {
                return next;
            }
        }
    }
}
