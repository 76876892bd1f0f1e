namespace ImageMount.TestSupport.Crash;

/// <summary>
/// What a guest does to a disk during a crash test, written down with the moments at which it began and ended, so that
/// afterwards it is known which contents each sector may have at which cut.
/// </summary>
/// <remarks>
/// May be used by several tasks at once, as long as they do not write to the same sectors at the same time.
/// </remarks>
public sealed class CrashWorkload
{
    private const int SectorSize = SectorStore.SectorSize;
    private readonly BlockNode _disk;
    private readonly CrashDevice _device;
    private readonly byte[] _initial;
    private readonly Lock _lock = new();
    private readonly Dictionary<long, List<GuestEvent>> _bySector = [];
    private readonly List<GuestEvent> _flushes = [];
    private long _clock;
    private long _stamp;

    internal CrashWorkload(BlockNode disk, CrashDevice device, byte[] initial, int seed)
    {
        _disk = disk;
        _device = device;
        _initial = initial;
        Random = new Random(seed);
        _stamp = (long)seed << 20;
    }

    /// <summary>The disk, for reading; changes go through the methods here.</summary>
    public BlockNode Disk => _disk;

    /// <summary>The simulated file, to make operations fail.</summary>
    public CrashDevice Device => _device;

    /// <summary>Randomness of the test's seed.</summary>
    public Random Random { get; }

    /// <summary>Writes new content to whole sectors.</summary>
    public async ValueTask WriteAsync(long offset, int count, WriteFlags flags = WriteFlags.None)
    {
        long stamp = Interlocked.Increment(ref _stamp);
        byte[] content = TestPattern.Make(count, offset, stamp);
        GuestEvent written = Begin(EventKind.Write, offset, count, stamp);
        await _disk.WriteAsync(offset, content, flags).ConfigureAwait(false);
        End(written);
        if ((flags & WriteFlags.Fua) != 0)
        {
            EndFua(written);
        }
    }

    /// <summary>Zeroes whole sectors.</summary>
    public async ValueTask ZeroAsync(long offset, long count, ZeroFlags flags = ZeroFlags.None)
    {
        GuestEvent zeroed = Begin(EventKind.Zero, offset, count, 0);
        await _disk.ZeroAsync(offset, count, flags).ConfigureAwait(false);
        End(zeroed);
    }

    /// <summary>Discards whole sectors: they are zero or as before from now on.</summary>
    public async ValueTask DiscardAsync(long offset, long count)
    {
        GuestEvent discarded = Begin(EventKind.Discard, offset, count, 0);
        await _disk.DiscardAsync(offset, count).ConfigureAwait(false);
        End(discarded);
    }

    /// <summary>Flushes: what ended before must survive from here on.</summary>
    public async ValueTask FlushAsync()
    {
        GuestEvent flush = BeginFlush();
        await _disk.FlushAsync().ConfigureAwait(false);
        End(flush);
    }

    /// <summary>A mixture of everything, some of it at once; the usual workload.</summary>
    /// <param name="steps">How many steps.</param>
    /// <param name="largest">Longest request, bytes.</param>
    public async Task RunMixedAsync(int steps, int largest = 64 << 10)
    {
        long sectors = _disk.Length / SectorSize;
        for (int i = 0; i < steps; i++)
        {
            int roll = Random.Next(100);
            if (roll < 20)
            {
                await FlushAsync().ConfigureAwait(false);
                continue;
            }

            int count = Random.Next(1, Math.Max(2, largest / SectorSize)) * SectorSize;
            count = (int)Math.Min(count, sectors * SectorSize);
            long offset = Random.NextInt64(0, sectors - (count / SectorSize) + 1) * SectorSize;
            switch (roll)
            {
                case < 70:
                    await WriteAsync(offset, count).ConfigureAwait(false);
                    break;
                case < 80:
                    await ZeroAsync(offset, count, roll % 2 == 0 ? ZeroFlags.MayUnmap : ZeroFlags.None)
                        .ConfigureAwait(false);
                    break;
                case < 90:
                    await DiscardAsync(offset, count).ConfigureAwait(false);
                    break;
                default:
                    await WriteTogetherAsync(sectors).ConfigureAwait(false);
                    break;
            }
        }
    }

    /// <summary>Several writes at once, to neighbouring places, with a flush among them.</summary>
    private async Task WriteTogetherAsync(long sectors)
    {
        const int Parts = 4;
        int each = (int)Math.Min(Random.Next(1, 24), sectors / Parts) * SectorSize;
        if (each == 0)
        {
            return;
        }

        long start = Random.NextInt64(0, sectors - (Parts * each / SectorSize) + 1) * SectorSize;
        var tasks = new List<Task>();
        for (int part = 0; part < Parts; part++)
        {
            long offset = start + ((long)part * each);
            tasks.Add(Task.Run(async () => await WriteAsync(offset, each).ConfigureAwait(false)));
        }

        tasks.Add(Task.Run(async () => await FlushAsync().ConfigureAwait(false)));
        await Task.WhenAll(tasks).ConfigureAwait(false);
    }

    internal GuestEvent BeginFlush() => Begin(EventKind.Flush, 0, 0, 0);

    internal void End(GuestEvent happening)
    {
        lock (_lock)
        {
            happening.EndClock = ++_clock;
            happening.EndOperation = _device.OperationCount;
        }
    }

    /// <summary>Null when every sector holds what it may hold after a crash at the cut; else what is wrong.</summary>
    internal string? Verify(ReadOnlySpan<byte> disk, int cut)
    {
        GuestEvent? flush = _flushes.Where(f => f.EndOperation <= cut).MaxBy(f => f.BeginClock);
        for (long sector = 0; sector * SectorSize < disk.Length; sector++)
        {
            long offset = sector * SectorSize;
            ReadOnlySpan<byte> found = disk.Slice((int)offset, (int)Math.Min(SectorSize, disk.Length - offset));
            if (!IsAllowed(sector, found, cut, flush))
            {
                return Explain(sector, found, cut, flush);
            }
        }

        return null;
    }

    private bool IsAllowed(long sector, ReadOnlySpan<byte> found, int cut, GuestEvent? flush)
    {
        GuestEvent? durable = null;
        if (_bySector.TryGetValue(sector, out List<GuestEvent>? events))
        {
            durable = events
                .Where(e => e.Kind != EventKind.Discard && IsDurable(e, cut, flush))
                .MaxBy(e => e.BeginClock);
            foreach (GuestEvent e in events)
            {
                bool isLater = durable is null || e.BeginClock > durable.BeginClock;
                if (isLater && e.BeginOperation <= cut && Holds(e, sector, found))
                {
                    return true;
                }
            }
        }

        return durable is null ? InitialAt(sector, found.Length).SequenceEqual(found) : Holds(durable, sector, found);
    }

    private static bool IsDurable(GuestEvent e, int cut, GuestEvent? flush) =>
        (flush is not null && e.EndClock < flush.BeginClock) || (e.IsFua && e.EndOperation <= cut);

    private ReadOnlySpan<byte> InitialAt(long sector, int count)
    {
        long from = Math.Min(sector * SectorSize, _initial.Length);
        int inside = (int)Math.Min(count, _initial.Length - from);
        if (inside == count)
        {
            return _initial.AsSpan((int)from, count);
        }

        var bytes = new byte[count];
        _initial.AsSpan((int)from, inside).CopyTo(bytes);
        return bytes;
    }

    private static bool Holds(GuestEvent e, long sector, ReadOnlySpan<byte> found)
    {
        if (e.Kind != EventKind.Write)
        {
            return !found.ContainsAnyExcept((byte)0);
        }

        Span<byte> expected = stackalloc byte[SectorSize];
        TestPattern.Fill(expected[..found.Length], sector * SectorSize, e.Stamp);
        return expected[..found.Length].SequenceEqual(found);
    }

    private string Explain(long sector, ReadOnlySpan<byte> found, int cut, GuestEvent? flush)
    {
        List<GuestEvent> events = _bySector.GetValueOrDefault(sector) ?? [];
        string whose = !found.ContainsAnyExcept((byte)0) ? "zeroes"
            : InitialAt(sector, found.Length).SequenceEqual(found) ? "the initial content"
            : "content of no write to it: " + Convert.ToHexString(found[..16]);
        foreach (GuestEvent e in events)
        {
            if (e.Kind == EventKind.Write && Holds(e, sector, found))
            {
                whose = $"the content of {e}";
            }
        }

        return $"sector at 0x{sector * SectorSize:x} holds {whose} after a crash at change {cut}.\n"
            + $"  last completed flush: {(flush is null ? "none" : flush.ToString())}\n"
            + string.Concat(events.Select(e => $"  {e}\n"));
    }

    private GuestEvent Begin(EventKind kind, long offset, long count, long stamp)
    {
        Assert.True(offset % SectorSize == 0 && count % SectorSize == 0, "a crash workload uses whole sectors");
        lock (_lock)
        {
            var e = new GuestEvent(kind, offset, count, stamp, ++_clock, _device.OperationCount);
            if (kind == EventKind.Flush)
            {
                _flushes.Add(e);
            }

            for (long sector = offset / SectorSize; sector < (offset + count) / SectorSize; sector++)
            {
                if (!_bySector.TryGetValue(sector, out List<GuestEvent>? events))
                {
                    _bySector.Add(sector, events = []);
                }

                events.Add(e);
            }

            return e;
        }
    }

    private void EndFua(GuestEvent written)
    {
        lock (_lock)
        {
            written.IsFua = true;
        }
    }
}

/// <summary>What a guest did.</summary>
internal enum EventKind
{
    Write,
    Zero,
    Discard,
    Flush,
}

/// <summary>
/// Something the guest did. The clock orders guest events among each other; the operation counts place them among the
/// changes of the file. Without an end it failed, or was under way when the test ended.
/// </summary>
internal sealed record GuestEvent(
    EventKind Kind, long Offset, long Count, long Stamp, long BeginClock, int BeginOperation)
{
    public long EndClock { get; set; } = long.MaxValue;

    public int EndOperation { get; set; } = int.MaxValue;

    public bool IsFua { get; set; }

    public override string ToString() =>
        $"{Kind} 0x{Offset:x}+0x{Count:x}{(IsFua ? " FUA" : "")} (guest clock {BeginClock}…{EndClock}, "
        + $"changes {BeginOperation}…{EndOperation})";
}
