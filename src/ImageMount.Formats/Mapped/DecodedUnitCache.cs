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
/// <para>A reader that wants a few bytes of a unit nobody asked for yet has it decoded only as far as it needs, where the
/// decoder can stop (<see cref="IPrefixDecoder"/>): on average half of a 64 KiB cluster for a random 4 KiB read. Whoever
/// wants more of the same unit has all of it decoded.</para>
/// <para>An entry counts its users. The cache is one of them; the buffer goes back to the pool with the last.</para>
/// </remarks>
public sealed class DecodedUnitCache
{
    private const long LeastShared = 32L << 20;
    private const long MostShared = 128L << 20;

    private readonly ConcurrentDictionary<UnitKey, DecodedUnit> _entries = new();
    private readonly Queue<DecodedUnit> _clock = new();
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

    /// <summary>
    /// The cache of the process: devices share its bound, not their units. The bound is a 64th of the memory that the
    /// process may use, at least 32 MiB and at most 128 MiB; only disks that hold compressed data fill it.
    /// </summary>
    public static DecodedUnitCache Shared { get; } =
        new(Math.Clamp(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 64, LeastShared, MostShared));

    /// <summary>Most decoded bytes to hold.</summary>
    public long MaxBytes { get; }

    /// <summary>Decoded bytes held now, those of readers included.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    /// <summary>Units decoded since the start; for statistics and tests.</summary>
    public long Decodes => Interlocked.Read(ref _decodes);

    /// <summary>Copies part of a unit if it is at hand.</summary>
    public bool TryRead(in CompressedUnit unit, int offsetInUnit, Span<byte> destination)
    {
        if (!_entries.TryGetValue(new UnitKey(unit), out DecodedUnit? entry) || !entry.TryEnter())
        {
            return false;
        }

        bool ready = entry.State == DecodedUnitState.Ready && entry.Has(offsetInUnit + destination.Length);
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
    internal bool TryAnnounce(object owner, in CompressedUnit unit, out DecodedUnit? announced)
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

        var entry = new DecodedUnit(owner, unit, DecodedUnitState.Queued);
        if (TryAdd(key, entry))
        {
            Interlocked.Add(ref _prefetching, unit.Length);
            announced = entry;
        }

        return true;
    }

    /// <summary>Decodes an announced unit, unless a reader has taken it over. Never throws.</summary>
    internal async ValueTask FetchAsync(DecodedUnit entry, CancellationToken cancellationToken)
    {
        try
        {
            if (entry.TryStart())
            {
                await LoadAsync(entry, entry.Unit.Length, cancellationToken).ConfigureAwait(false);
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
        if (_entries.TryGetValue(new UnitKey(source, hostOffset, guestOffset, length), out DecodedUnit? entry))
        {
            Remove(entry);
        }
    }

    /// <summary>Forgets all units of an owner that is closing. It has no request under way any more.</summary>
    public void Drop(object owner)
    {
        foreach (KeyValuePair<UnitKey, DecodedUnit> pair in _entries)
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
        bool alone = offsetInUnit == 0 && destination.Length == unit.Length;
        int wanted = Wanted(unit, offsetInUnit + destination.Length);
        while (true)
        {
            if (_entries.TryGetValue(key, out DecodedUnit? entry))
            {
                if (!entry.TryEnter())
                {
                    continue; // Its last user is just taking it out.
                }

                try
                {
                    Outcome outcome = await UseAsync(entry, offsetInUnit, destination, alone, cancellationToken)
                        .ConfigureAwait(false);
                    switch (outcome)
                    {
                        case Outcome.Read:
                            return;
                        case Outcome.TooShort:
                            // Only its start was decoded. A new entry, with all of it: there may be readers in this one.
                            Remove(entry);
                            wanted = unit.Length;
                            continue;
                    }
                }
                finally
                {
                    Leave(entry);
                }

                // Who was first has failed or was cancelled; not in line again, or a damaged unit with many readers
                // would be tried by one after the other.
                alone = true;
            }

            if (alone || unit.Length > MaxBytes / 4)
            {
                await DecodeAloneAsync(unit, offsetInUnit, destination, cancellationToken).ConfigureAwait(false);
                return;
            }

            entry = new DecodedUnit(owner, unit, DecodedUnitState.Loading);
            if (!TryAdd(key, entry))
            {
                continue;
            }

            try
            {
                await LoadAsync(entry, wanted, cancellationToken).ConfigureAwait(false);
                entry.CopyTo(offsetInUnit, destination.Span);
                return;
            }
            finally
            {
                Leave(entry);
            }
        }
    }

    /// <summary>
    /// How many bytes of a unit to decode for a reader that needs the first <paramref name="needed"/>. Near its end all:
    /// decoding a whole unit at once is faster by more than the rest of it costs.
    /// </summary>
    private static int Wanted(in CompressedUnit unit, int needed) =>
        unit.Decoder is IPrefixDecoder && needed <= unit.Length - (unit.Length / 4) ? needed : unit.Length;

    /// <summary>Reads from an entry that is there, taking its decoding over if nobody has begun.</summary>
    private async ValueTask<Outcome> UseAsync(
        DecodedUnit entry, int offsetInUnit, Memory<byte> destination, bool alone, CancellationToken cancellationToken)
    {
        if (entry.State == DecodedUnitState.Queued && entry.TryStart())
        {
            if (alone)
            {
                // Straight into the reader's memory; the others, if any came in between, decode on their own.
                Fail(entry);
                return Outcome.Failed;
            }

            await LoadAsync(entry, entry.Unit.Length, cancellationToken).ConfigureAwait(false);
        }
        else if (entry.State != DecodedUnitState.Ready)
        {
            await entry.WaitAsync(cancellationToken).ConfigureAwait(false);
        }

        if (entry.State != DecodedUnitState.Ready)
        {
            return Outcome.Failed;
        }

        if (!entry.Has(offsetInUnit + destination.Length))
        {
            return Outcome.TooShort;
        }

        entry.CopyTo(offsetInUnit, destination.Span);
        return Outcome.Read;
    }

    private async ValueTask LoadAsync(DecodedUnit entry, int wanted, CancellationToken cancellationToken)
    {
        CompressedUnit unit = entry.Unit;
        BufferLease decoded = BufferPool.Shared.Rent(unit.Length);
        try
        {
            await DecodeAsync(unit, decoded.Memory[..wanted], cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            decoded.Dispose();
            Fail(entry);
            throw;
        }

        entry.Finish(decoded, wanted);
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
            if (decoded.Length < unit.Length)
            {
                ((IPrefixDecoder)unit.Decoder).DecodePrefix(stored.Span, decoded.Span);
            }
            else
            {
                unit.Decoder.Decode(unit, stored.Span, decoded.Span);
            }
        }
        catch (BlockException e)
        {
            // The decoder sees bytes only; the place is known here.
            e.Stamp(unit.Source.Name, unit.HostOffset);
            throw;
        }
    }

    /// <summary>Puts an entry in, with one user besides the cache, and makes room for it.</summary>
    private bool TryAdd(UnitKey key, DecodedUnit entry)
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
            DecodedUnit entry = _clock.Dequeue();
            if (entry.IsRemoved)
            {
                continue;
            }

            if (entry.State != DecodedUnitState.Ready || entry.TakeSecondChance() || Bytes <= MaxBytes)
            {
                _clock.Enqueue(entry);
            }
            else
            {
                Remove(entry);
            }
        }
    }

    private void Fail(DecodedUnit entry)
    {
        Remove(entry);
        entry.Finish(null, 0);
    }

    private void Remove(DecodedUnit entry)
    {
        if (entry.TrySetRemoved())
        {
            _entries.TryRemove(new KeyValuePair<UnitKey, DecodedUnit>(new UnitKey(entry.Unit), entry));
            Interlocked.Decrement(ref _count);
            Leave(entry);
        }
    }

    private void Leave(DecodedUnit entry)
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

    /// <summary>What came of reading from an entry.</summary>
    private enum Outcome
    {
        Read,

        /// <summary>Decoded, but not as far as the reader needs.</summary>
        TooShort,

        /// <summary>Could not be decoded by whoever began.</summary>
        Failed,
    }
}
