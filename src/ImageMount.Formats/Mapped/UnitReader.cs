using ImageMount.Core.Block;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// One device's way to the cache of decoded units. It watches the reads: where they go on from one another, or one is
/// longer than a unit, the units that follow are decoded by the thread pool before the reader gets there. A reader that
/// arrives at a unit which was announced but not begun decodes it itself, so nobody waits in line for the pool.
/// </summary>
/// <remarks>
/// Everything done ahead counts as a request of the device (<see cref="MappedDevice.QuiesceAsync"/>), since it uses
/// mappings that it looked up. How far ahead is bounded per stream and, in the cache, for the process.
/// </remarks>
internal sealed class UnitReader : IThreadPoolWorkItem
{
    /// <summary>Readers that go through the disk in order at a time; more of them share places.</summary>
    private const int StreamCount = 8;

    /// <summary>Requests of one reader arrive in some disorder when the kernel reads ahead with several threads.</summary>
    private const int Disorder = 1 << 20;

    /// <summary>
    /// A reader in order leaves no gaps to speak of; reads that only happen to be near each other do. At least one byte
    /// in so many must have been asked for. (Random 4 KiB reads of a 256 MiB disk that were taken for streams kept the
    /// pool decoding half as much again as the readers.)
    /// </summary>
    private const int Sparsest = 4;

    /// <summary>Bytes of a stream that are looked at for gaps.</summary>
    private const long Memory = 4L << 20;

    /// <summary>Reads elsewhere that a stream outlives.</summary>
    private const int Loyalty = 64;

    private readonly DecodedUnitCache _cache;
    private readonly InFlight _users;
    private readonly Func<IExtentMap> _map;
    private readonly long _window;
    private readonly Lock _lock = new();
    private readonly Stream[] _streams = new Stream[StreamCount];
    private readonly CancellationTokenSource _stop = new();
    private long _clock;
    private bool _planning;
    private int _planSlot;

    /// <summary>Makes the reader of a device.</summary>
    /// <param name="cache">Where decoded units are kept.</param>
    /// <param name="users">The device's requests in flight.</param>
    /// <param name="map">The device's tables, for the units that follow.</param>
    public UnitReader(DecodedUnitCache cache, InFlight users, Func<IExtentMap> map)
    {
        _cache = cache;
        _users = users;
        _map = map;
        _window = Math.Min(4L << 20, cache.MaxBytes / 8);
        for (int i = 0; i < _streams.Length; i++)
        {
            _streams[i].Next = long.MinValue / 2;
        }
    }

    /// <summary>Reads guest bytes that lie in one unit.</summary>
    /// <param name="unit">The unit.</param>
    /// <param name="guestOffset">First byte wanted.</param>
    /// <param name="destination">Where to put them; does not go past the unit.</param>
    /// <param name="requestEnd">First guest byte after the whole request, which may go on in other units.</param>
    /// <param name="cancellationToken">Stops reading.</param>
    public ValueTask ReadAsync(
        in CompressedUnit unit, long guestOffset, Memory<byte> destination, long requestEnd,
        CancellationToken cancellationToken)
    {
        Watch(unit, guestOffset, guestOffset + destination.Length, requestEnd);
        return _cache.ReadAsync(
            this, unit, (int)(guestOffset - unit.GuestOffset), destination, cancellationToken);
    }

    /// <summary>Stops reading ahead. What is under way ends soon; the device waits for it like for any request.</summary>
    public void Stop() => _stop.Cancel();

    /// <summary>Gives the memory back, after <see cref="Stop"/> and when nothing is under way.</summary>
    public void Drop()
    {
        _cache.Drop(this);
        _stop.Dispose();
    }

    /// <summary>Runs the planner; called by the thread pool.</summary>
    void IThreadPoolWorkItem.Execute() => _ = PlanAsync();

    private void Watch(in CompressedUnit unit, long offset, long end, long requestEnd)
    {
        long unitEnd = unit.GuestOffset + unit.Length;
        lock (_lock)
        {
            int index = FindStream(offset);
            ref Stream stream = ref _streams[index];
            stream.LastUse = ++_clock;
            if (stream.Reads == 0 || !stream.TryJoin(offset, end))
            {
                stream.Begin(offset, end, unitEnd);
            }
            else if (requestEnd != stream.RequestEnd && end > stream.Next)
            {
                stream.Reads = Math.Min(stream.Reads + 1, 16); // Not for each unit of one request.
            }

            stream.RequestEnd = requestEnd;
            stream.Next = Math.Max(stream.Next, end);
            stream.Planned = Math.Max(stream.Planned, unitEnd);

            // The first read says nothing but its own length; from the second on, the window doubles.
            long ahead = stream.Reads < 2 ? 0 : Math.Min(_window, (long)unit.Length << Math.Min(stream.Reads - 1, 8));
            long target = Math.Max(stream.Next + ahead, Math.Min(requestEnd, stream.Next + _window));
            if (requestEnd <= stream.Planned && target - stream.Planned < ahead / 2)
            {
                return; // Far enough; planning again for every small read would cost more than it gives.
            }

            stream.Target = Math.Max(stream.Target, target);
            if (_planning || stream.Target <= stream.Planned || _stop.IsCancellationRequested)
            {
                return;
            }

            _planning = true;
            _planSlot = _users.Enter();
        }

        ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
    }

    /// <summary>
    /// The stream that a read may belong to, or a place for a new one: the one that was not used for longest, where a
    /// stream that went on at least once counts as used <see cref="Loyalty"/> reads later than it was.
    /// </summary>
    private int FindStream(long offset)
    {
        int victim = 0;
        long oldest = long.MaxValue;
        for (int i = 0; i < _streams.Length; i++)
        {
            ref Stream stream = ref _streams[i];
            if (stream.Reads > 0 && offset >= stream.Next - Disorder && offset <= stream.Next + Disorder)
            {
                return i;
            }

            long use = stream.Reads < 2 ? stream.LastUse : stream.LastUse + Loyalty;
            if (use < oldest)
            {
                oldest = use;
                victim = i;
            }
        }

        _streams[victim].Reads = 0;
        return victim;
    }

    private async Task PlanAsync()
    {
        int slot = _planSlot;
        try
        {
            while (TryTakePlan(out int index, out long from, out long target))
            {
                long reached = await AnnounceAsync(index, from, target).ConfigureAwait(false);
                lock (_lock)
                {
                    ref Stream stream = ref _streams[index];
                    if (reached < target && stream.Planned == target)
                    {
                        // No room now; the reader's progress asks again. The plan itself must not, or it would turn in
                        // circles, and the device could never close.
                        stream.Planned = stream.Target = reached;
                    }
                }
            }
        }
        catch (Exception)
        {
            // A table could not be read, or the device is closing. The reader will see it for itself.
            lock (_lock)
            {
                _planning = false;
            }
        }
        finally
        {
            _users.Exit(slot);
        }
    }

    private bool TryTakePlan(out int index, out long from, out long target)
    {
        lock (_lock)
        {
            for (index = 0; index < _streams.Length; index++)
            {
                ref Stream stream = ref _streams[index];
                if (stream.Target > stream.Planned && !_stop.IsCancellationRequested)
                {
                    from = stream.Planned;
                    target = stream.Target;
                    stream.Planned = target;
                    return true;
                }
            }

            _planning = false;
            from = target = 0;
            return false;
        }
    }

    /// <summary>
    /// Announces the units of a range, in order, and has the pool decode them. Returns how far it got: less than
    /// <paramref name="target"/> only when there was no room, not for the end of the disk.
    /// </summary>
    private async ValueTask<long> AnnounceAsync(int index, long from, long target)
    {
        IExtentMap map = _map();
        long end = Math.Min(target, map.Length);
        while (from < end && !_stop.IsCancellationRequested)
        {
            // Entered before the lookup, and handed on with what it found: a drain that begins after the mapping was
            // replaced must wait for the decoding too.
            int slot = _users.Enter();
            bool handedOn = false;
            try
            {
                MappedRun run = await map.LookupAsync(from, end - from, _stop.Token).ConfigureAwait(false);
                // The reader may have overtaken the planner.
                bool passed = run.Kind == RunKind.Compressed
                    && run.Unit.GuestOffset < Volatile.Read(ref _streams[index].Next);
                if (run.Kind == RunKind.Compressed && !passed)
                {
                    if (!_cache.TryAnnounce(this, run.Unit, out DecodedUnit? entry))
                    {
                        return from;
                    }

                    if (entry is not null)
                    {
                        handedOn = true;
                        ThreadPool.UnsafeQueueUserWorkItem(new Fetch(this, entry, slot), preferLocal: false);
                    }
                }

                from += run.Length;
            }
            finally
            {
                if (!handedOn)
                {
                    _users.Exit(slot);
                }
            }
        }

        return target;
    }

    /// <summary>A reader that goes through the disk in order, as far as it can be told.</summary>
    private struct Stream
    {
        /// <summary>First guest byte not read yet.</summary>
        public long Next;

        /// <summary>Guest bytes before this were announced, or are not worth it.</summary>
        public long Planned;

        /// <summary>Guest bytes before this are to be announced.</summary>
        public long Target;

        /// <summary>End of the last request seen.</summary>
        public long RequestEnd;

        /// <summary>Reads that made this look like a stream; 0: the place is free.</summary>
        public int Reads;

        /// <summary>When it was used last, in reads of the device.</summary>
        public long LastUse;

        private long _start;
        private long _asked;

        /// <summary>Starts anew with a first read.</summary>
        public void Begin(long offset, long end, long unitEnd)
        {
            _start = offset;
            _asked = end - offset;
            Next = end;
            Planned = unitEnd;
            Target = 0;
            Reads = 1;
        }

        /// <summary>Takes a read in, unless that would leave too much unread in between.</summary>
        public bool TryJoin(long offset, long end)
        {
            long start = Math.Min(_start, offset);
            long last = Math.Max(Next, end);
            long asked = _asked + (end - offset);
            if (last - start > asked * Sparsest)
            {
                return false;
            }

            _start = Math.Max(start, last - Memory);
            _asked = Math.Min(asked, Memory);
            return true;
        }
    }

    /// <summary>The decoding of one announced unit.</summary>
    private sealed class Fetch(UnitReader reader, DecodedUnit entry, int slot) : IThreadPoolWorkItem
    {
        public void Execute() => _ = RunAsync();

        private async Task RunAsync()
        {
            try
            {
                await reader._cache.FetchAsync(entry, reader._stop.Token).ConfigureAwait(false);
            }
            finally
            {
                reader._users.Exit(slot);
            }
        }
    }
}
