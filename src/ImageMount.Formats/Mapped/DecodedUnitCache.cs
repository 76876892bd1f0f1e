using System.Collections.Concurrent;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// Keeps decoded units, bounded in bytes, and decodes each once however many readers ask for it at a time. Decoding
/// and reading happen outside every lock, on the first reader's thread; the others wait. A hit takes no lock, completes
/// synchronously and allocates nothing.
/// </summary>
/// <remarks>
/// An entry is known by node, host offset, guest offset and length. Why that is safe in a writable image: a lookup
/// that no longer gives a unit cannot ask for it, so an entry whose unit was freed is merely useless. It could be asked
/// for again only if a unit for the same guest bytes were stored at the same host offset once more: whoever stores or
/// frees compressed units calls <see cref="Forget"/> before the space can be given out again. Decoding in progress is
/// covered by the rule of <see cref="IWritableExtentMap"/>: freed space is reused only after the requests that saw the
/// old mapping have ended, and read-ahead counts as a request.
/// <para>An entry counts its users. The cache is one of them; the buffer goes back to the pool with the last.</para>
/// </remarks>
public sealed class DecodedUnitCache
{
    /// <summary>Bound of <see cref="Shared"/>, bytes.</summary>
    public const long DefaultMaxBytes = 32L << 20;

    private readonly ConcurrentDictionary<UnitKey, Entry> _entries = new();
    private readonly Queue<Entry> _clock = new();
    private readonly Lock _clockLock = new();
    private long _bytes;
    private int _count;
    private long _prefetching;
    private long _decodes;

    /// <summary>Makes a cache.</summary>
    /// <param name="maxBytes">Most decoded bytes to hold; exceeded only by units that are being read at the moment.</param>
    public DecodedUnitCache(long maxBytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(maxBytes);
        MaxBytes = maxBytes;
    }

    /// <summary>The cache of the process: devices share its bound, not their units.</summary>
    public static DecodedUnitCache Shared { get; } = new(DefaultMaxBytes);

    /// <summary>Most decoded bytes to hold.</summary>
    public long MaxBytes { get; }

    /// <summary>Decoded bytes held now, those of readers included.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    /// <summary>Units decoded since the start; for statistics and tests.</summary>
    public long Decodes => Interlocked.Read(ref _decodes);

    /// <summary>Copies part of a unit if it is at hand.</summary>
    public bool TryRead(in CompressedUnit unit, int offsetInUnit, Span<byte> destination)
    {
        if (!_entries.TryGetValue(new UnitKey(unit), out Entry? entry) || !entry.TryEnter())
        {
            return false;
        }

        bool ready = entry.State == EntryState.Ready;
        if (ready)
        {
            entry.CopyTo(offsetInUnit, destination);
            entry.Touch(offsetInUnit, destination.Length);
        }

        Leave(entry);
        return ready;
    }

    /// <summary>Reads part of a unit, decoding it or waiting for who does.</summary>
    /// <param name="owner">Whose entry it becomes; see <see cref="Drop"/>.</param>
    /// <param name="unit">The unit.</param>
    /// <param name="offsetInUnit">First byte wanted, counted in decoded bytes.</param>
    /// <param name="destination">Where to put them; does not go past the unit.</param>
    /// <param name="cancellationToken">Stops waiting and reading.</param>
    public ValueTask ReadAsync(
        object owner, in CompressedUnit unit, int offsetInUnit, Memory<byte> destination,
        CancellationToken cancellationToken) =>
        TryRead(unit, offsetInUnit, destination.Span)
            ? default
            : ReadSlowlyAsync(owner, unit, offsetInUnit, destination, cancellationToken);

    /// <summary>
    /// Announces a unit that is likely to be wanted soon, unless it is known already. The result, if any, is to be run
    /// by the thread pool; it never fails. False: there is no room for more read-ahead now.
    /// </summary>
    internal bool TryAnnounce(object owner, in CompressedUnit unit, out Entry? announced)
    {
        announced = null;
        var key = new UnitKey(unit);
        if (_entries.ContainsKey(key))
        {
            return true;
        }

        // A quarter of the cache: what is fetched ahead must not push itself out before it is read.
        if (Interlocked.Read(ref _prefetching) + unit.Length > MaxBytes / 4)
        {
            return false;
        }

        var entry = new Entry(owner, unit, EntryState.Queued);
        if (TryAdd(key, entry))
        {
            Interlocked.Add(ref _prefetching, unit.Length);
            announced = entry;
        }

        return true;
    }

    /// <summary>Decodes an announced unit, unless a reader has taken it over. Never throws.</summary>
    internal async ValueTask FetchAsync(Entry entry, CancellationToken cancellationToken)
    {
        try
        {
            if (entry.TryStart())
            {
                await LoadAsync(entry, cancellationToken).ConfigureAwait(false);
            }
        }
        catch (Exception)
        {
            // Nobody asked for it yet. Whoever does will decode it himself and get an error of his own.
        }
        finally
        {
            Interlocked.Add(ref _prefetching, -entry.Unit.Length);
            Leave(entry);
        }
    }

    /// <summary>
    /// Makes the cache forget a unit whose place is about to be freed or overwritten. Readers that wait for it still get
    /// it: they began before.
    /// </summary>
    public void Forget(BlockNode source, long hostOffset, long guestOffset, int length)
    {
        if (_entries.TryGetValue(new UnitKey(source, hostOffset, guestOffset, length), out Entry? entry))
        {
            Remove(entry);
        }
    }

    /// <summary>Forgets all units of an owner that is closing. It has no request under way any more.</summary>
    public void Drop(object owner)
    {
        foreach (KeyValuePair<UnitKey, Entry> pair in _entries)
        {
            if (ReferenceEquals(pair.Value.Owner, owner))
            {
                Remove(pair.Value);
            }
        }
    }

    private async ValueTask ReadSlowlyAsync(
        object owner, CompressedUnit unit, int offsetInUnit, Memory<byte> destination,
        CancellationToken cancellationToken)
    {
        var key = new UnitKey(unit);
        bool whole = offsetInUnit == 0 && destination.Length == unit.Length;
        while (true)
        {
            if (_entries.TryGetValue(key, out Entry? entry))
            {
                if (!entry.TryEnter())
                {
                    continue; // Its last user is just taking it out.
                }

                try
                {
                    if (await TryUseAsync(entry, offsetInUnit, destination, whole, cancellationToken)
                            .ConfigureAwait(false))
                    {
                        return;
                    }
                }
                finally
                {
                    Leave(entry);
                }

                // Who was first has failed or was cancelled; not in line again, or a damaged unit with many readers
                // would be tried by one after the other.
                whole = true;
            }

            if (whole || unit.Length > MaxBytes / 4)
            {
                await DecodeAloneAsync(unit, offsetInUnit, destination, cancellationToken).ConfigureAwait(false);
                return;
            }

            entry = new Entry(owner, unit, EntryState.Loading);
            if (!TryAdd(key, entry))
            {
                continue;
            }

            try
            {
                await LoadAsync(entry, cancellationToken).ConfigureAwait(false);
                entry.CopyTo(offsetInUnit, destination.Span);
                return;
            }
            finally
            {
                Leave(entry);
            }
        }
    }

    /// <summary>Reads from an entry that is there, taking its decoding over if nobody has begun. False: it failed.</summary>
    private async ValueTask<bool> TryUseAsync(
        Entry entry, int offsetInUnit, Memory<byte> destination, bool whole, CancellationToken cancellationToken)
    {
        if (entry.State == EntryState.Queued && entry.TryStart())
        {
            if (whole)
            {
                // Straight into the reader's memory; the others, if any came in between, decode on their own.
                Fail(entry);
                return false;
            }

            await LoadAsync(entry, cancellationToken).ConfigureAwait(false);
        }
        else if (entry.State != EntryState.Ready)
        {
            await entry.WaitAsync(cancellationToken).ConfigureAwait(false);
        }

        if (entry.State != EntryState.Ready)
        {
            return false;
        }

        entry.CopyTo(offsetInUnit, destination.Span);
        return true;
    }

    private async ValueTask LoadAsync(Entry entry, CancellationToken cancellationToken)
    {
        CompressedUnit unit = entry.Unit;
        BufferLease decoded = BufferPool.Shared.Rent(unit.Length);
        try
        {
            await DecodeAsync(unit, decoded.Memory, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            decoded.Dispose();
            Fail(entry);
            throw;
        }

        entry.Finish(decoded);
    }

    private async ValueTask DecodeAloneAsync(
        CompressedUnit unit, int offsetInUnit, Memory<byte> destination, CancellationToken cancellationToken)
    {
        if (destination.Length == unit.Length)
        {
            await DecodeAsync(unit, destination, cancellationToken).ConfigureAwait(false);
            return;
        }

        using BufferLease decoded = BufferPool.Shared.Rent(unit.Length);
        await DecodeAsync(unit, decoded.Memory, cancellationToken).ConfigureAwait(false);
        decoded.Span.Slice(offsetInUnit, destination.Length).CopyTo(destination.Span);
    }

    private async ValueTask DecodeAsync(CompressedUnit unit, Memory<byte> decoded, CancellationToken cancellationToken)
    {
        using BufferLease stored = BufferPool.Shared.Rent(unit.StoredLength);
        await unit.Source.ReadAsync(unit.HostOffset, stored.Memory, cancellationToken).ConfigureAwait(false);
        Interlocked.Increment(ref _decodes);
        try
        {
            unit.Decoder.Decode(unit, stored.Span, decoded.Span);
        }
        catch (BlockException e)
        {
            // The decoder sees bytes only; the place is known here.
            e.Stamp(unit.Source.Name, unit.HostOffset);
            throw;
        }
    }

    /// <summary>Puts an entry in, with one user besides the cache, and makes room for it.</summary>
    private bool TryAdd(UnitKey key, Entry entry)
    {
        if (!_entries.TryAdd(key, entry))
        {
            return false;
        }

        Interlocked.Add(ref _bytes, entry.Unit.Length);
        Interlocked.Increment(ref _count);
        lock (_clockLock)
        {
            _clock.Enqueue(entry);
            Evict();
        }

        return true;
    }

    /// <summary>Second chance: entries that were read since the hand last passed stay for another round.</summary>
    private void Evict()
    {
        bool crowded = _clock.Count > (2 * Volatile.Read(ref _count)) + 64; // Mostly entries that were forgotten.
        for (int steps = 2 * _clock.Count; steps > 0 && (crowded || Bytes > MaxBytes); steps--)
        {
            Entry entry = _clock.Dequeue();
            if (entry.IsRemoved)
            {
                continue;
            }

            if (entry.State != EntryState.Ready || entry.TakeSecondChance() || Bytes <= MaxBytes)
            {
                _clock.Enqueue(entry);
            }
            else
            {
                Remove(entry);
            }
        }
    }

    private void Fail(Entry entry)
    {
        Remove(entry);
        entry.Finish(null);
    }

    private void Remove(Entry entry)
    {
        if (entry.TrySetRemoved())
        {
            _entries.TryRemove(new KeyValuePair<UnitKey, Entry>(new UnitKey(entry.Unit), entry));
            Interlocked.Decrement(ref _count);
            Leave(entry);
        }
    }

    private void Leave(Entry entry)
    {
        if (entry.Leave())
        {
            Interlocked.Add(ref _bytes, -entry.Unit.Length);
        }
    }

    /// <summary>Which unit.</summary>
    private readonly record struct UnitKey(BlockNode Source, long HostOffset, long GuestOffset, int Length)
    {
        public UnitKey(in CompressedUnit unit)
            : this(unit.Source, unit.HostOffset, unit.GuestOffset, unit.Length)
        {
        }
    }

    /// <summary>How far a unit is.</summary>
    internal enum EntryState
    {
        /// <summary>Announced; nobody decodes it yet.</summary>
        Queued,

        /// <summary>Somebody decodes it.</summary>
        Loading,

        /// <summary>Decoded.</summary>
        Ready,

        /// <summary>Will not be decoded.</summary>
        Failed,
    }

    /// <summary>A unit, decoded or on the way there.</summary>
    internal sealed class Entry(object owner, in CompressedUnit unit, EntryState state)
    {
        private int _state = (int)state;
        private int _users = 2; // The cache and whoever made it.
        private int _removed;
        private bool _recent;
        private BufferLease? _decoded;
        private TaskCompletionSource? _finished;

        public object Owner { get; } = owner;

        public CompressedUnit Unit { get; } = unit;

        public EntryState State => (EntryState)Volatile.Read(ref _state);

        public bool IsRemoved => Volatile.Read(ref _removed) != 0;

        public bool TrySetRemoved() => Interlocked.Exchange(ref _removed, 1) == 0;

        /// <summary>Becomes a user, unless the last one has left.</summary>
        public bool TryEnter()
        {
            int users = Volatile.Read(ref _users);
            while (users > 0)
            {
                int seen = Interlocked.CompareExchange(ref _users, users + 1, users);
                if (seen == users)
                {
                    return true;
                }

                users = seen;
            }

            return false;
        }

        /// <summary>Stops being a user; true for the last one.</summary>
        public bool Leave()
        {
            if (Interlocked.Decrement(ref _users) != 0)
            {
                return false;
            }

            _decoded?.Dispose();
            return true;
        }

        /// <summary>Takes on the decoding of an announced unit; true for one caller only.</summary>
        public bool TryStart() =>
            Interlocked.CompareExchange(ref _state, (int)EntryState.Loading, (int)EntryState.Queued)
                == (int)EntryState.Queued;

        /// <summary>Tells the outcome; null for a failure.</summary>
        public void Finish(BufferLease? decoded)
        {
            _decoded = decoded;
            Interlocked.Exchange(ref _state, (int)(decoded is null ? EntryState.Failed : EntryState.Ready));
            Volatile.Read(ref _finished)?.TrySetResult();
        }

        /// <summary>Waits for the outcome, which <see cref="State"/> then tells.</summary>
        public Task WaitAsync(CancellationToken cancellationToken)
        {
            TaskCompletionSource? finished = Volatile.Read(ref _finished);
            if (finished is null)
            {
                var fresh = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                finished = Interlocked.CompareExchange(ref _finished, fresh, null) ?? fresh;
            }

            // Asked after the source is visible: Finish sets the state first and looks for the source then.
            if (State is EntryState.Ready or EntryState.Failed)
            {
                return Task.CompletedTask;
            }

            return finished.Task.WaitAsync(cancellationToken);
        }

        public void CopyTo(int offsetInUnit, Span<byte> destination) =>
            _decoded!.Value.Span.Slice(offsetInUnit, destination.Length).CopyTo(destination);

        /// <summary>Notes that the unit was wanted again: it stays for another round of the clock.</summary>
        public void Touch(int offsetInUnit, int count) =>

            // Who reads a unit to its end is likely to be reading on, not to come back: it may go first.
            _recent = offsetInUnit + count != Unit.Length;

        public bool TakeSecondChance()
        {
            bool recent = _recent;
            _recent = false;
            return recent;
        }
    }
}
