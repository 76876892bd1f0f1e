using ImageMount.Core.Block;

namespace ImageMount.VirtualFat.Journal;

/// <summary>Where the bytes of a range are.</summary>
internal enum JournalSource
{
    /// <summary>Not in the journal.</summary>
    Below,

    /// <summary>They are zero.</summary>
    Zero,

    /// <summary>In the journal.</summary>
    Journal,
}

/// <summary>
/// What the guest wrote: sectors of 512 bytes in blocks of 4 KiB, in memory up to a bound and then in a
/// <see cref="JournalFile"/>. Every sector remembers whether it was written since the folder last followed
/// ("fresh"): a file of which no sector is fresh has not changed.
/// </summary>
/// <remarks>
/// For several threads; one lock around everything, also around the copying, so that nobody sees half a sector.
/// </remarks>
internal sealed class JournalBlocks : IDisposable
{
    /// <summary>Bytes of a sector.</summary>
    public const int SectorSize = 512;

    /// <summary>Bytes of a block.</summary>
    public const int BlockSize = 4096;

    private const int GroupSize = 512;
    private readonly Dictionary<long, JournalEntry[]> _groups = [];
    private readonly JournalAreas _indexAreas = new();
    private readonly JournalAreas _stateAreas = new();
    private readonly Lock _lock = new();
    private readonly JournalSlots _slots;
    private readonly JournalFile _file;
    private readonly int _maxBlocks;
    private int _blocks;

    /// <summary>Makes an empty journal.</summary>
    /// <param name="memory">Bytes to keep in memory.</param>
    /// <param name="file">Where the rest goes, made when it is needed; disposed with this.</param>
    /// <param name="maxBlocks">Most blocks that it takes: as many as its index can tell of.</param>
    public JournalBlocks(long memory, JournalFile file, int maxBlocks = JournalIndex.MaxBlocks)
    {
        _maxBlocks = maxBlocks;
        _slots = new JournalSlots(memory, file);
        _file = file;
    }

    /// <summary>The file.</summary>
    public JournalFile File => _file;

    /// <summary>Counts changes: something was written when it differs from before.</summary>
    public long Version { get; private set; }

    /// <summary>Bytes that the journal holds.</summary>
    public long UsedBytes
    {
        get
        {
            lock (_lock)
            {
                return _slots.UsedCount * BlockSize;
            }
        }
    }

    /// <summary>Writes whole sectors.</summary>
    public void Write(long offset, ReadOnlySpan<byte> bytes)
    {
        lock (_lock)
        {
            while (!bytes.IsEmpty)
            {
                int within = (int)(offset % BlockSize);
                int count = Math.Min(BlockSize - within, bytes.Length);
                WriteBlock(offset / BlockSize, within, bytes[..count]);
                offset += count;
                bytes = bytes[count..];
            }

            Version++;
        }
    }

    /// <summary>Makes whole sectors zero.</summary>
    public void Zero(long offset, long count)
    {
        lock (_lock)
        {
            long end = offset + count;
            while (offset < end)
            {
                int within = (int)(offset % BlockSize);
                int step = (int)Math.Min(BlockSize - within, end - offset);
                JournalEntry old = Get(offset / BlockSize);
                CheckRoom(old);
                JournalEntry entry = old.WithZero(Sectors(within, step));
                if (old.HasSlot && !entry.HasSlot)
                {
                    _slots.Free(old.Slot);
                }

                Set(offset / BlockSize, entry);
                offset += step;
            }

            Version++;
        }
    }

    /// <summary>Copies what the journal has of the beginning of a range, or says how long it has nothing.</summary>
    /// <param name="offset">Where, at any byte.</param>
    /// <param name="buffer">Filled as far as one source goes, unless that is
    /// <see cref="JournalSource.Below"/>.</param>
    /// <param name="length">How far it goes.</param>
    public JournalSource Read(long offset, Span<byte> buffer, out int length)
    {
        lock (_lock)
        {
            JournalSource source = Find(offset, buffer.Length, out long found);
            length = (int)Math.Min(found, source == JournalSource.Journal ? BlockSize - offset % BlockSize : found);
            Span<byte> part = buffer[..length];
            if (source == JournalSource.Zero)
            {
                part.Clear();
            }
            else if (source == JournalSource.Journal)
            {
                _slots.Read(Get(offset / BlockSize).Slot, (int)(offset % BlockSize), part);
            }

            return source;
        }
    }

    /// <summary>The source of the beginning of a range, and how far it goes.</summary>
    public JournalSource Map(long offset, long count, out long length)
    {
        lock (_lock)
        {
            return Find(offset, count, out length);
        }
    }

    /// <summary>True when any sector of a range was written since the folder last followed.</summary>
    public bool IsFresh(long offset, long count)
    {
        lock (_lock)
        {
            bool isFresh = false;
            ForEachBlock(offset, count, (block, sectors) => !(isFresh = (Get(block).Fresh & sectors) != 0));
            return isFresh;
        }
    }

    /// <summary>True when the journal has every sector of a range.</summary>
    public bool Covers(long offset, long count)
    {
        lock (_lock)
        {
            long end = offset + count;
            while (offset < end)
            {
                if (Find(offset, end - offset, out long length) == JournalSource.Below)
                {
                    return false;
                }

                offset += length;
            }

            return true;
        }
    }

    /// <summary>The folder has followed: nothing is fresh any more. The answer undoes that.</summary>
    public Action ClearFresh()
    {
        lock (_lock)
        {
            var cleared = new List<(long Block, int Sectors)>();
            foreach ((long block, JournalEntry entry) in Entries().Where(known => known.Entry.Fresh != 0))
            {
                cleared.Add((block, entry.Fresh));
                Set(block, entry.WithoutFresh(JournalEntry.All));
            }

            return () =>
            {
                lock (_lock)
                {
                    foreach ((long block, int sectors) in cleared)
                    {
                        Set(block, Get(block).WithFresh(sectors));
                    }
                }
            };
        }
    }

    /// <summary>
    /// Writes everything into the file, so that it can be gone on with from there, and waits until it is on the disk.
    /// </summary>
    /// <param name="state">What else is kept with the blocks; null when that is as it was the last time.</param>
    /// <param name="applyId">Id of the last applying.</param>
    /// <param name="isApplied">Everything is in the folder too.</param>
    public void Save(byte[]? state, string applyId, bool isApplied)
    {
        lock (_lock)
        {
            _slots.WriteBack();

            // From here on what is written may count, whether or not we come to hear of it.
            _slots.HasIndex = true;
            PinSaved();
            byte[] index = JournalIndex.Write(Entries(), _blocks);
            try
            {
                (uint, byte[]) indexPart = (Reserve(_indexAreas, index), index);
                (uint, byte[])? statePart = state is null ? null : (Reserve(_stateAreas, state), state);
                _file.Save(indexPart, statePart, applyId, isApplied);
            }
            catch
            {
                _slots.Release(_indexAreas.GiveUp(), isDoubtful: true);
                if (state is not null)
                {
                    _slots.Release(_stateAreas.GiveUp(), isDoubtful: true);
                }

                throw;
            }

            _indexAreas.Done();
            if (state is not null)
            {
                _stateAreas.Done();
            }

            _slots.Saved();
        }
    }

    /// <summary>Goes on with a journal that was kept.</summary>
    public static JournalBlocks Load(long memory, JournalFile file)
    {
        var blocks = new JournalBlocks(memory, file);
        (long Block, JournalEntry Entry)[] entries = JournalIndex.Parse(file.ReadIndex(out JournalPart index), file);
        var used = new HashSet<uint>();
        foreach ((long block, JournalEntry entry) in entries)
        {
            blocks.Set(block, entry);
            if (entry.HasSlot && !used.Add(entry.Slot))
            {
                throw file.Damaged("two blocks are in one place");
            }
        }

        file.ReadState(out JournalPart state);
        foreach (JournalPart part in (JournalPart[])[index, state])
        {
            for (uint i = 0; i < part.SlotCount; i++)
            {
                if (!used.Add(part.Slot + i))
                {
                    throw file.Damaged("a block is where its index is");
                }
            }
        }

        blocks._indexAreas.Load(index);
        blocks._stateAreas.Load(state);
        blocks._slots.Load(used);
        blocks.PinSaved();
        return blocks;
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private static int Sectors(int within, int count)
    {
        int first = within / SectorSize;
        int end = (within + count + SectorSize - 1) / SectorSize;
        return (1 << end) - (1 << first);
    }

    private static JournalSource SourceOf(JournalEntry entry, int sector) =>
        (entry.Data >> sector & 1) != 0 ? JournalSource.Journal
        : (entry.Zero >> sector & 1) != 0 ? JournalSource.Zero
        : JournalSource.Below;

    private JournalSource Find(long offset, long count, out long length)
    {
        long end = offset + count;
        JournalSource source = SourceOf(Get(offset / BlockSize), (int)(offset % BlockSize / SectorSize));
        long at = offset - offset % SectorSize + SectorSize;
        while (at < end)
        {
            long block = at / BlockSize;
            if (at % BlockSize == 0 && source == JournalSource.Below && !_groups.ContainsKey(block / GroupSize))
            {
                at = (block / GroupSize + 1) * GroupSize * BlockSize;
                continue;
            }

            if (SourceOf(Get(block), (int)(at % BlockSize / SectorSize)) != source)
            {
                break;
            }

            at += SectorSize;
        }

        length = Math.Min(at, end) - offset;
        return source;
    }

    /// <summary>Blocks of a range that the journal knows of, until the action has enough.</summary>
    private void ForEachBlock(long offset, long count, Func<long, int, bool> action)
    {
        long end = offset + count;
        while (offset < end)
        {
            long block = offset / BlockSize;
            if (!_groups.ContainsKey(block / GroupSize))
            {
                offset = (block / GroupSize + 1) * GroupSize * BlockSize;
                continue;
            }

            int within = (int)(offset % BlockSize);
            int step = (int)Math.Min(BlockSize - within, end - offset);
            if (!action(block, Sectors(within, step)))
            {
                return;
            }

            offset += step;
        }
    }

    private void WriteBlock(long block, int within, ReadOnlySpan<byte> bytes)
    {
        JournalEntry entry = Get(block);
        CheckRoom(entry);
        if (entry.IsPinned)
        {
            MoveBlock(block, entry);
            entry = Get(block);
        }

        uint slot = entry.HasSlot ? entry.Slot : _slots.Allocate();
        try
        {
            _slots.Write(slot, within, bytes);
        }
        catch (BlockException) when (!entry.HasSlot)
        {
            _slots.GiveBack(slot);
            throw;
        }

        Set(block, entry.WithData(Sectors(within, bytes.Length), slot));
    }

    /// <summary>
    /// A slot that the saved index calls not fresh keeps its bytes until the next saving: were they others after a
    /// crash, the folder would never hear of them.
    /// </summary>
    private void MoveBlock(long block, JournalEntry entry)
    {
        byte[] bytes = new byte[BlockSize];
        _slots.Read(entry.Slot, 0, bytes);
        uint slot = _slots.Allocate();
        try
        {
            _slots.Write(slot, 0, bytes);
        }
        catch (BlockException)
        {
            _slots.GiveBack(slot);
            throw;
        }

        _slots.Free(entry.Slot);
        Set(block, JournalEntry.Make(entry.Data, entry.Zero, entry.Fresh, slot));
    }

    private void CheckRoom(JournalEntry entry)
    {
        if (entry == default && _blocks >= _maxBlocks)
        {
            throw new BlockException(
                BlockErrorKind.NoSpace,
                $"the journal of the folder is full: it takes what was written to {_maxBlocks} blocks of 4 KiB")
            {
                Hint = "Unmount the disk, so that the folder follows, and mount it again.",
            };
        }
    }

    private void PinSaved()
    {
        foreach (JournalEntry[] group in _groups.Values)
        {
            for (int i = 0; i < group.Length; i++)
            {
                group[i] = group[i].Saved();
            }
        }
    }

    private uint Reserve(JournalAreas areas, byte[] bytes) => areas.Next(
        (uint)((bytes.Length + BlockSize - 1) / BlockSize), _slots.AllocateArea,
        area => _slots.Release(area, isDoubtful: false)).First;

    private JournalEntry Get(long block) =>
        _groups.TryGetValue(block / GroupSize, out JournalEntry[]? group) ? group[block % GroupSize] : default;

    private void Set(long block, JournalEntry entry)
    {
        if (!_groups.TryGetValue(block / GroupSize, out JournalEntry[]? group))
        {
            group = new JournalEntry[GroupSize];
            _groups.Add(block / GroupSize, group);
        }

        ref JournalEntry at = ref group[block % GroupSize];
        _blocks += (at == default ? 0 : -1) + (entry == default ? 0 : 1);
        at = entry;
    }

    private IEnumerable<(long Block, JournalEntry Entry)> Entries()
    {
        foreach ((long number, JournalEntry[] group) in _groups)
        {
            for (int i = 0; i < group.Length; i++)
            {
                if (group[i] != default)
                {
                    yield return (number * GroupSize + i, group[i]);
                }
            }
        }
    }
}
