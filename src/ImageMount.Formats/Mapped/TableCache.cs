using System.Numerics;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// Caches pieces of on-disk tables, known by their host offset, bounded by a clock. A hit takes no lock and allocates
/// nothing; a miss reads once however many ask. Changed pieces stay until their owner captures them (a copy, taken
/// under the lock together with everything that must be consistent with it) and writes the copy, so changes may go on
/// while a write-back is under way. In which order captures reach the disk is the owner's business: it knows what
/// depends on what.
/// </summary>
/// <remarks>
/// Members that say "under the lock" are called with the <see cref="Lock"/> given to the constructor held; the owner
/// uses the same lock for its own state. The bound is soft: a piece that is dirty or being written is never dropped, so
/// the owner writes back before too many are (<see cref="IsCrowded"/>).
/// </remarks>
public sealed class TableCache
{
    /// <summary>Key of a slice that holds nothing.</summary>
    private const long NoKey = -1;

    private const int LongestChain = 64;
    private const int MinSlices = 16;
    private readonly BlockNode _node;
    private readonly Lock _lock;
    private readonly WordOrder _order;
    private readonly int _maxSlices;
    private readonly int _maxDirty;
    private readonly TableSlice?[] _buckets;
    private readonly int _bucketShift;
    private readonly List<TableSlice> _slices = [];
    private readonly List<TableSlice> _dirty = [];
    private readonly Dictionary<long, TaskCompletionSource<TableSlice>> _loads = [];
    private int _hand;

    /// <summary>Makes a cache.</summary>
    /// <param name="node">Where the tables are.</param>
    /// <param name="sharedLock">The owner's lock; held briefly, never over I/O.</param>
    /// <param name="sliceSize">Bytes of a piece, a power of two. Pieces do not overlap.</param>
    /// <param name="maxBytes">Bound of the cached bytes.</param>
    /// <param name="order">Byte order of the tables' words.</param>
    public TableCache(BlockNode node, Lock sharedLock, int sliceSize, long maxBytes, WordOrder order)
    {
        _node = node;
        _lock = sharedLock;
        _order = order;
        SliceSize = sliceSize;
        _maxSlices = (int)Math.Clamp(maxBytes / sliceSize, MinSlices, 1 << 22);
        _maxDirty = Math.Max(MinSlices / 2, Math.Min(_maxSlices / 4, (4 << 20) / sliceSize));
        int bits = Math.Max(4, BitOperations.Log2((uint)_maxSlices) + 1);
        _buckets = new TableSlice?[1 << bits];
        _bucketShift = 64 - bits;
    }

    /// <summary>Bytes of a piece.</summary>
    public int SliceSize { get; }

    /// <summary>True when so much is dirty that the owner should write back before it changes more.</summary>
    public bool IsCrowded => Volatile.Read(ref _dirtyCount) >= _maxDirty;

    /// <summary>Pieces that changed since they were captured; exact under the lock.</summary>
    public int DirtyCount => Volatile.Read(ref _dirtyCount);

    /// <summary>True when something is dirty.</summary>
    public bool IsDirty => Volatile.Read(ref _dirtyCount) > 0;

    private int _dirtyCount;

    /// <summary>Finds a piece without a lock; null when it is not at hand (or for a moment not to be seen).</summary>
    public TableSlice? TryFind(long key)
    {
        TableSlice? slice = Volatile.Read(ref _buckets[Bucket(key)]);
        for (int steps = 0; slice is not null && steps < LongestChain; steps++)
        {
            if (slice.Key == key)
            {
                if (!slice.Referenced)
                {
                    slice.Referenced = true; // Not stored again on every hit: the line stays shared between cores.
                }

                return slice;
            }

            slice = Volatile.Read(ref slice.Next);
        }

        return null;
    }

    /// <summary>
    /// Finds a piece or reads it. It may be gone again by the time the caller looks: under the lock, ask
    /// <see cref="Find"/>, and come back here when that says null.
    /// </summary>
    /// <exception cref="BlockException">The piece lies outside the node, or cannot be read.</exception>
    public ValueTask<TableSlice> GetAsync(long key)
    {
        TableSlice? slice = TryFind(key);
        return slice is not null ? new(slice) : new(LoadAsync(key));
    }

    /// <summary>Finds a piece; under the lock.</summary>
    public TableSlice? Find(long key)
    {
        for (TableSlice? slice = _buckets[Bucket(key)]; slice is not null; slice = slice.Next)
        {
            if (slice.Key == key)
            {
                slice.Referenced = true;
                return slice;
            }
        }

        return null;
    }

    /// <summary>Puts a piece of zeroes in, for a table that is new; under the lock.</summary>
    public TableSlice AddZero(long key)
    {
        TableSlice slice = Find(key) ?? Insert(key, default);
        slice.BeginChange();
        slice.Bytes.Clear();
        slice.EndChange();
        return slice;
    }

    /// <summary>Notes that a piece was changed; under the lock.</summary>
    public void MarkDirty(TableSlice slice)
    {
        if (!slice.IsDirty)
        {
            slice.IsDirty = true;
            _dirty.Add(slice);
            Volatile.Write(ref _dirtyCount, _dirty.Count);
        }
    }

    /// <summary>
    /// Forgets the pieces of a range that was freed; under the lock. Changes to them are forgotten too.
    /// </summary>
    public void Forget(long offset, long count)
    {
        for (long key = offset; key < offset + count; key += SliceSize)
        {
            TableSlice? slice = Find(key);
            if (slice is null || slice.IsBeingWritten)
            {
                continue; // Being written: stays, harmless, until the clock takes it. Freed space is not reused before.
            }

            if (slice.IsDirty)
            {
                slice.IsDirty = false;
                _dirty.Remove(slice);
                Volatile.Write(ref _dirtyCount, _dirty.Count);
            }

            Unlink(slice);
            slice.BeginChange();
            slice.SetKey(NoKey);
            slice.EndChange();
            slice.Referenced = false;
        }
    }

    /// <summary>Copies everything dirty, for writing; under the lock. Ends with <see cref="Complete"/>.</summary>
    public TableCapture Capture()
    {
        _dirty.Sort(static (a, b) => a.Key.CompareTo(b.Key));
        var capture = new TableCapture(SliceSize, _dirty);
        foreach (TableSlice slice in _dirty)
        {
            slice.IsDirty = false;
            slice.IsBeingWritten = true;
        }

        _dirty.Clear();
        Volatile.Write(ref _dirtyCount, 0);
        return capture;
    }

    /// <summary>Ends a write-back; under the lock. What was not written is dirty again.</summary>
    public void Complete(TableCapture capture, bool written)
    {
        foreach (TableSlice slice in capture.Slices)
        {
            slice.IsBeingWritten = false;
            if (!written)
            {
                MarkDirty(slice);
            }
        }

        capture.Dispose();
    }

    private int Bucket(long key) =>
        (int)((ulong)(key / SliceSize) * 0x9E3779B97F4A7C15UL >> _bucketShift);

    private async Task<TableSlice> LoadAsync(long key)
    {
        TaskCompletionSource<TableSlice> load;
        bool mine = false;
        lock (_lock)
        {
            TableSlice? slice = Find(key);
            if (slice is not null)
            {
                return slice;
            }

            if (!_loads.TryGetValue(key, out load!))
            {
                load = new TaskCompletionSource<TableSlice>(TaskCreationOptions.RunContinuationsAsynchronously);
                _loads.Add(key, load);
                mine = true;
            }
        }

        if (mine)
        {
            await ReadSliceAsync(key, load).ConfigureAwait(false);
        }

        return await load.Task.ConfigureAwait(false);
    }

    /// <summary>
    /// Reads for everybody who waits. Not cancellable: one caller's cancelling must not fail the others.
    /// </summary>
    private async ValueTask ReadSliceAsync(long key, TaskCompletionSource<TableSlice> load)
    {
        try
        {
            if (key < 0 || key > _node.Length - SliceSize)
            {
                throw BlockException.Invalid(
                    "a table lies outside the file", key, $"0x{key:x}+0x{SliceSize:x}", $"0…0x{_node.Length:x}");
            }

            using BufferLease buffer = BufferPool.Shared.Rent(SliceSize);
            await _node.ReadAsync(key, buffer.Memory).ConfigureAwait(false);
            TableSlice slice;
            lock (_lock)
            {
                // A new table may have been put in meanwhile; it is newer than what was read.
                slice = Find(key) ?? Insert(key, buffer.Span);
                _loads.Remove(key);
            }

            load.SetResult(slice);
        }
        catch (Exception e)
        {
            lock (_lock)
            {
                _loads.Remove(key);
            }

            load.SetException(e);
        }
    }

    private TableSlice Insert(long key, ReadOnlySpan<byte> content)
    {
        TableSlice? slice = _slices.Count < _maxSlices ? null : TakeVictim();
        if (slice is null)
        {
            slice = new TableSlice(SliceSize, _order);
            slice.SetKey(NoKey);
            _slices.Add(slice);
        }

        if (slice.Key != NoKey)
        {
            Unlink(slice);
        }

        slice.BeginChange();
        slice.SetKey(key);
        content.CopyTo(slice.Bytes);
        slice.EndChange();
        slice.Referenced = true;
        ref TableSlice? head = ref _buckets[Bucket(key)];
        slice.Next = head;
        Volatile.Write(ref head, slice);
        return slice;
    }

    private TableSlice? TakeVictim()
    {
        // Twice around at most: the first round takes the second chances away.
        for (int steps = 2 * _slices.Count; steps > 0; steps--)
        {
            _hand = _hand + 1 < _slices.Count ? _hand + 1 : 0;
            TableSlice slice = _slices[_hand];
            if (slice.IsDirty || slice.IsBeingWritten)
            {
                continue;
            }

            if (!slice.Referenced)
            {
                return slice;
            }

            slice.Referenced = false;
        }

        return null;
    }

    private void Unlink(TableSlice slice)
    {
        ref TableSlice? link = ref _buckets[Bucket(slice.Key)];
        while (link is not null)
        {
            if (ReferenceEquals(link, slice))
            {
                Volatile.Write(ref link, slice.Next);
                return;
            }

            link = ref link.Next;
        }
    }
}

/// <summary>Copies of dirty pieces, in the order of their places.</summary>
public sealed class TableCapture : IDisposable
{
    private readonly int _sliceSize;
    private readonly List<TableSlice> _slices;
    private readonly long[] _keys;
    private BufferLease? _bytes;

    internal TableCapture(int sliceSize, List<TableSlice> dirty)
    {
        _sliceSize = sliceSize;
        _slices = [.. dirty];
        _keys = new long[dirty.Count];
        if (dirty.Count == 0)
        {
            return;
        }

        _bytes = BufferPool.Shared.Rent(checked(dirty.Count * sliceSize));
        for (int i = 0; i < dirty.Count; i++)
        {
            _keys[i] = dirty[i].Key;
            dirty[i].Bytes.CopyTo(_bytes.Value.Span[(i * sliceSize)..]);
        }
    }

    /// <summary>True when there is nothing to write.</summary>
    public bool IsEmpty => _keys.Length == 0;

    /// <summary>Number of copies.</summary>
    public int Count => _keys.Length;

    internal IReadOnlyList<TableSlice> Slices => _slices;

    /// <summary>Host offset of a copy, for owners that write it somewhere else first (a journal).</summary>
    public long KeyAt(int index) => _keys[index];

    /// <summary>A copy.</summary>
    public ReadOnlySpan<byte> BytesAt(int index) => _bytes!.Value.Span.Slice(index * _sliceSize, _sliceSize);

    /// <summary>Writes the copies; neighbours go in one write.</summary>
    public async ValueTask WriteAsync(BlockNode node, CancellationToken cancellationToken)
    {
        const int MaxWrite = 1 << 20;
        for (int from = 0; from < _keys.Length;)
        {
            int to = from + 1;
            while (to < _keys.Length && _keys[to] == _keys[to - 1] + _sliceSize && (to - from) * _sliceSize < MaxWrite)
            {
                to++;
            }

            ReadOnlyMemory<byte> bytes = _bytes!.Value.Memory[(from * _sliceSize)..(to * _sliceSize)];
            await node.WriteAsync(_keys[from], bytes, WriteFlags.None, cancellationToken).ConfigureAwait(false);
            from = to;
        }
    }

    /// <summary>Gives the copies back.</summary>
    public void Dispose()
    {
        _bytes?.Dispose();
        _bytes = null;
    }
}
