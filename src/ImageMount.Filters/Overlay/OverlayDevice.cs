using ImageMount.Core.Block;
using ImageMount.Core.Info;

namespace ImageMount.Filters.Overlay;

/// <summary>
/// A temporary copy-on-write disk. Changes go to slots of an <see cref="OverlayStore"/> in blocks of 4 KiB; what was
/// not changed is read from the parent, which is never written. Nothing is copied on a write: whole blocks replace whole
/// blocks, and <see cref="BlockNode"/> completes smaller requests, because that is the alignment asked for here.
/// </summary>
/// <remarks>
/// A write fills its slot first and publishes the blocks afterwards, so nobody ever sees half of one. A cluster keeps
/// its slot until the disk is cut off below it: a slot that somebody might still be reading is never given away.
/// Flushing does nothing: the overlay is forgotten at the end by design.
/// </remarks>
public sealed class OverlayDevice : BlockDevice
{
    private const int BlockSize = 4096;
    private const int ClusterSize = OverlayStore.SlotSize;
    private const int AllBlocks = (1 << (ClusterSize / BlockSize)) - 1;
    private const long GroupBytes = (long)OverlayTable.GroupSize * ClusterSize;

    private readonly BlockNode _parent;
    private readonly OverlayStore _store;
    private readonly OverlayTable _table = new();
    private readonly BlockChild[] _children;
    private readonly BlockLimits _limits;
    private long _length;
    private long _parentVisible;

    /// <summary>Makes an overlay with no changes.</summary>
    /// <param name="parent">The disk below.</param>
    /// <param name="store">Room for changes; the device disposes it.</param>
    public OverlayDevice(BlockNode parent, OverlayStore store)
    {
        _parent = parent;
        _store = store;
        _children = [new BlockChild("file", parent)];
        _length = _parentVisible = parent.Length;
        _limits = new BlockLimits
        {
            RequestAlignment = BlockSize,
            MemoryAlignment = 1,
            OptimalTransfer = Math.Max(ClusterSize, parent.Limits.OptimalTransfer),
        };
    }

    private enum Source
    {
        Parent,
        Zero,
        Slot,
    }

    /// <inheritdoc/>
    public override long Length => Interlocked.Read(ref _length);

    /// <inheritdoc/>
    public override BlockCapabilities Capabilities =>
        BlockCapabilities.Write | BlockCapabilities.Zero | BlockCapabilities.Discard | BlockCapabilities.Resize
        | BlockCapabilities.Map | BlockCapabilities.Fua;

    /// <inheritdoc/>
    public override BlockLimits Limits => _limits;

    /// <inheritdoc/>
    public override IReadOnlyList<BlockChild> Children => _children;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        Run run = Find(offset, buffer.Length);
        if (run.Length < buffer.Length)
        {
            return ReadRunsAsync(run, offset, buffer, cancellationToken);
        }

        return run.Source == Source.Parent
            ? ReadParentAsync(offset, buffer, cancellationToken)
            : ReadOwn(run, buffer.Span);
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> buffer, WriteFlags flags, CancellationToken cancellationToken)
    {
        ReadOnlySpan<byte> bytes = buffer.Span;
        while (!bytes.IsEmpty)
        {
            int within = (int)(offset % ClusterSize);
            int count = Math.Min(ClusterSize - within, bytes.Length);
            WriteCluster(offset / ClusterSize, within, bytes[..count]);
            offset += count;
            bytes = bytes[count..];
        }

        return default;
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryZeroAsync(
        long offset, long count, ZeroFlags flags, CancellationToken cancellationToken)
    {
        long end = offset + count;
        while (offset < end)
        {
            if (offset % GroupBytes == 0 && end - offset >= GroupBytes && _table.TryZeroGroup(offset / GroupBytes))
            {
                offset += GroupBytes;
                continue;
            }

            int within = (int)(offset % ClusterSize);
            int step = (int)Math.Min(ClusterSize - within, end - offset);
            int blocks = Blocks(within, step);
            Change(offset / ClusterSize, blocks, static (entry, blocks) => entry.WithZero(blocks));
            offset += step;
        }

        return new(true);
    }

    /// <inheritdoc/>
    /// <remarks>
    /// Only changed blocks are dropped: remembering a discard of unchanged ones would cost memory, not save it.
    /// </remarks>
    public override ValueTask<bool> TryDiscardAsync(long offset, long count, CancellationToken cancellationToken)
    {
        long end = offset + count;
        while (offset < end)
        {
            if (_table.IsUntouchedGroup(offset / ClusterSize))
            {
                offset = Math.Min(end, ((offset / GroupBytes) + 1) * GroupBytes);
                continue;
            }

            int within = (int)(offset % ClusterSize);
            int step = (int)Math.Min(ClusterSize - within, end - offset);
            int blocks = Blocks(within, step);
            if ((_table.Get(offset / ClusterSize).Data & blocks) != 0)
            {
                Change(
                    offset / ClusterSize, blocks, static (entry, blocks) => entry.WithZero(entry.Data & blocks));
            }

            offset += step;
        }

        return new(true);
    }

    /// <inheritdoc/>
    public override ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
    {
        Run run = Find(offset, count);
        return run.Source switch
        {
            Source.Slot => new(new BlockExtent(run.Length, ExtentFlags.Data | ExtentFlags.Present)),
            Source.Zero => new(new BlockExtent(run.Length, ExtentFlags.Zero | ExtentFlags.Present)),
            _ => MapParentAsync(offset, run.Length, cancellationToken),
        };
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryResizeAsync(long newLength, CancellationToken cancellationToken)
    {
        if (newLength < Length)
        {
            Interlocked.Exchange(ref _length, newLength);
            _parentVisible = Math.Min(_parentVisible, newLength);
            CutOff(newLength);
        }
        else
        {
            Interlocked.Exchange(ref _length, newLength);
        }

        return new(true);
    }

    /// <inheritdoc/>
    public override ValueTask DescribeAsync(DeviceInfo info, CancellationToken cancellationToken)
    {
        info.ActualSize = _store.UsedBytes;
        return default;
    }

    /// <inheritdoc/>
    public override ValueTask CloseAsync()
    {
        _store.Dispose();
        return default;
    }

    private static int Blocks(int within, int count)
    {
        int first = within / BlockSize;
        int end = (within + count + BlockSize - 1) / BlockSize;
        return (AllBlocks >> ((ClusterSize / BlockSize) - (end - first))) << first;
    }

    private static Source SourceOf(OverlayEntry entry, int block) =>
        (entry.Data >> block & 1) != 0 ? Source.Slot
        : (entry.Zero >> block & 1) != 0 ? Source.Zero
        : Source.Parent;

    /// <summary>The first bytes of a range that come from one place.</summary>
    private Run Find(long offset, long count)
    {
        long cluster = offset / ClusterSize;
        OverlayEntry entry = _table.Get(cluster);
        int block = (int)(offset % ClusterSize / BlockSize);
        Source source = SourceOf(entry, block);
        uint slot = source == Source.Slot ? entry.Slot : 0;
        int slotOffset = (int)(offset % ClusterSize);
        long end = offset + count;
        long at = offset;
        while (true)
        {
            at = Math.Min(end, (at / BlockSize + 1) * BlockSize);
            if (at >= end)
            {
                break;
            }

            if (at % ClusterSize == 0)
            {
                if (source == Source.Slot)
                {
                    break;
                }

                cluster++;
                entry = _table.Get(cluster);
                bool whole = end - at >= ClusterSize
                    && (source == Source.Zero ? entry.Zero == AllBlocks : (entry.Zero | entry.Data) == 0);
                if (whole)
                {
                    at += ClusterSize - BlockSize;
                    continue;
                }
            }

            if (SourceOf(entry, (int)(at % ClusterSize / BlockSize)) != source)
            {
                break;
            }
        }

        return new Run(source, at - offset, slot, slotOffset);
    }

    private async ValueTask ReadRunsAsync(
        Run run, long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (true)
        {
            Memory<byte> part = buffer[..(int)run.Length];
            if (run.Source == Source.Parent)
            {
                await ReadParentAsync(offset, part, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await ReadOwn(run, part.Span).ConfigureAwait(false);
            }

            offset += part.Length;
            buffer = buffer[part.Length..];
            if (buffer.IsEmpty)
            {
                return;
            }

            run = Find(offset, buffer.Length);
        }
    }

    private ValueTask ReadOwn(Run run, Span<byte> buffer)
    {
        if (run.Source == Source.Zero)
        {
            buffer.Clear();
        }
        else
        {
            _store.Read(run.Slot, run.SlotOffset, buffer);
        }

        return default;
    }

    private ValueTask ReadParentAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        int available = (int)Math.Clamp(_parentVisible - offset, 0, buffer.Length);
        buffer.Span[available..].Clear();
        return _parent.ReadAsync(offset, buffer[..available], cancellationToken);
    }

    private async ValueTask<BlockExtent> MapParentAsync(long offset, long count, CancellationToken cancellationToken)
    {
        long available = Math.Clamp(_parentVisible - offset, 0, count);
        if (available == 0)
        {
            return new BlockExtent(count, ExtentFlags.Zero | ExtentFlags.Present);
        }

        BlockExtent extent = await _parent.MapAsync(offset, available, cancellationToken).ConfigureAwait(false);
        return extent with { Depth = extent.Depth + 1 };
    }

    private void WriteCluster(long cluster, int within, ReadOnlySpan<byte> bytes)
    {
        OverlayEntry entry = EnsureSlot(cluster);
        _store.Write(entry.Slot, within, bytes);
        int end = within + bytes.Length;
        int last = end / BlockSize;
        if (end % BlockSize != 0 && (entry.Data >> last & 1) == 0)
        {
            // The disk ends inside this block; should it grow, the rest must be zero.
            Span<byte> rest = stackalloc byte[BlockSize - (end % BlockSize)];
            rest.Clear();
            _store.Write(entry.Slot, end, rest);
        }

        Change(cluster, Blocks(within, bytes.Length), static (entry, blocks) => entry.WithData(blocks));
    }

    private OverlayEntry EnsureSlot(long cluster)
    {
        OverlayEntry entry = _table.Get(cluster);
        if (entry.HasSlot)
        {
            return entry;
        }

        uint slot = _store.Allocate();
        while (!entry.HasSlot)
        {
            OverlayEntry replacement = entry.WithSlot(slot);
            if (_table.TryReplace(cluster, entry, replacement))
            {
                return replacement;
            }

            entry = _table.Get(cluster);
        }

        _store.Free(slot);
        return entry;
    }

    private void Change(long cluster, int blocks, Func<OverlayEntry, int, OverlayEntry> change)
    {
        OverlayEntry old;
        OverlayEntry replacement;
        do
        {
            old = _table.Get(cluster);
            replacement = change(old, blocks);
        }
        while (old != replacement && !_table.TryReplace(cluster, old, replacement));
    }

    /// <summary>Forgets what lies behind the new end; the caller promises that nobody uses it.</summary>
    private void CutOff(long newLength)
    {
        foreach (long group in _table.Groups)
        {
            if ((group + 1) * GroupBytes <= newLength)
            {
                continue;
            }

            long first = Math.Max(group * OverlayTable.GroupSize, newLength / ClusterSize);
            for (long cluster = first; cluster < (group + 1) * OverlayTable.GroupSize; cluster++)
            {
                CutCluster(cluster, newLength - (cluster * ClusterSize));
            }

            if (group * GroupBytes >= newLength)
            {
                _table.Remove(group);
            }
        }
    }

    private void CutCluster(long cluster, long kept)
    {
        OverlayEntry entry = _table.Get(cluster);
        if (kept >= ClusterSize || entry == default)
        {
            return;
        }

        if (kept <= 0)
        {
            if (entry.HasSlot)
            {
                _store.Free(entry.Slot);
            }

            _table.TryReplace(cluster, entry, default);
            return;
        }

        int keptBlocks = (int)((kept + BlockSize - 1) / BlockSize);
        int inside = (int)(kept % BlockSize);
        if (inside != 0 && (entry.Data >> (keptBlocks - 1) & 1) != 0)
        {
            Span<byte> rest = stackalloc byte[BlockSize - inside];
            rest.Clear();
            _store.Write(entry.Slot, (int)kept, rest);
        }

        Change(cluster, AllBlocks & ~((1 << keptBlocks) - 1), static (entry, blocks) => entry.WithParent(blocks));
    }

    /// <summary>Bytes that come from one place.</summary>
    private readonly record struct Run(Source Source, long Length, uint Slot, int SlotOffset);
}
