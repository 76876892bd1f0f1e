namespace ImageMount.Formats.Mapped;

/// <summary>
/// Bounded memory for the last level of a format's tables, where entries are 32-bit and the directory above fits in
/// memory: VMDK grain tables and their like. Each table has a slot beside its directory entry, so a hit is one read of
/// an array: no lock, no hash, no allocation.
/// </summary>
/// <remarks>
/// Readers may go on using a table that was evicted meanwhile: clean tables are never changed. A change goes through
/// <see cref="TryChange"/>, which refuses a table that is not in its slot any more; a changed table stays until it was
/// written back (<see cref="TakeDirty"/>, then <see cref="EndWrite"/>). Whoever loads tables sees to it that
/// no table is loaded twice at a time, or a stale copy could come after a change.
/// </remarks>
/// <param name="maxBytes">Most bytes of clean tables to keep. Changed ones come on top; their owner bounds them.</param>
internal sealed class LeafTableCache(long maxBytes)
{
    private readonly Lock _lock = new();
    private readonly Queue<LeafTable> _clock = new();
    private readonly HashSet<LeafTable> _dirty = [];
    private long _bytes;

    /// <summary>Bytes of all tables held.</summary>
    public long Bytes
    {
        get
        {
            lock (_lock)
            {
                return _bytes;
            }
        }
    }

    /// <summary>Tables that wait to be written back.</summary>
    public int DirtyCount
    {
        get
        {
            lock (_lock)
            {
                return _dirty.Count;
            }
        }
    }

    /// <summary>The table in a slot, or null.</summary>
    public static LeafTable? Find(LeafTable?[] slots, int index)
    {
        LeafTable? table = Volatile.Read(ref slots[index]);
        table?.Touch();
        return table;
    }

    /// <summary>
    /// Puts a table into its empty slot; clean, or changed in all its sectors when it is new on disk too. Runs
    /// <paramref name="also"/> at the same moment, seen from <see cref="TakeDirty"/>.
    /// </summary>
    public void Add(LeafTable table, bool isNew, Action? also = null)
    {
        lock (_lock)
        {
            also?.Invoke();
            _bytes += table.Size;
            _clock.Enqueue(table);
            Volatile.Write(ref table.Slots[table.Index], table);
            if (isNew)
            {
                table.DirtySectors = table.AllSectors;
                _dirty.Add(table);
            }

            Evict();
        }
    }

    /// <summary>Sets consecutive entries to values that grow by a step. False: the table was evicted; load it again.</summary>
    public bool TryChange(LeafTable table, int first, int count, uint value, uint step)
    {
        lock (_lock)
        {
            if (!ReferenceEquals(table.Slots[table.Index], table))
            {
                return false;
            }

            for (int i = first; i < first + count; i++)
            {
                Volatile.Write(ref table.Entries[i], value);
                value += step;
                table.DirtySectors |= 1UL << (i / LeafTable.EntriesPerSector);
            }

            _dirty.Add(table);
            return true;
        }
    }

    /// <summary>
    /// Hands out every changed table of an owner's slots with a copy of its entries as they are now, so that later
    /// changes do not slip into a write whose payload is not durable yet. Runs <paramref name="also"/> at the same
    /// moment, for what belongs to it (the directory).
    /// </summary>
    public void TakeDirty(LeafTable?[] slots, List<LeafTableWrite> writes, Action also)
    {
        lock (_lock)
        {
            foreach (LeafTable table in _dirty)
            {
                if (ReferenceEquals(table.Slots, slots) && table.DirtySectors != 0)
                {
                    writes.Add(new LeafTableWrite(table, [.. table.Entries], table.DirtySectors));
                    table.DirtySectors = 0;
                }
            }

            also();
        }
    }

    /// <summary>Ends a write: what was written is clean unless it changed again; what failed is dirty as before.</summary>
    public void EndWrite(List<LeafTableWrite> writes, bool succeeded, Action also)
    {
        lock (_lock)
        {
            also();
            foreach (LeafTableWrite write in writes)
            {
                if (!succeeded)
                {
                    write.Table.DirtySectors |= write.Sectors;
                }

                if (write.Table.DirtySectors == 0)
                {
                    _dirty.Remove(write.Table);
                }
            }

            Evict();
        }
    }

    private void Evict()
    {
        for (int steps = 2 * _clock.Count; steps > 0 && _bytes > maxBytes; steps--)
        {
            LeafTable table = _clock.Dequeue();
            if (table.TakeSecondChance() || _dirty.Contains(table))
            {
                _clock.Enqueue(table);
                continue;
            }

            Volatile.Write(ref table.Slots[table.Index], null);
            _bytes -= table.Size;
        }
    }
}

/// <summary>A table in memory, entries in the machine's order.</summary>
/// <param name="slots">The array that holds the owner's tables.</param>
/// <param name="index">Where in it this one stands.</param>
/// <param name="entries">Its entries.</param>
internal sealed class LeafTable(LeafTable?[] slots, int index, uint[] entries)
{
    /// <summary>Entries in a sector of 512 bytes, the unit of write-back.</summary>
    public const int EntriesPerSector = 128;

    private bool _recent;

    /// <summary>The array that holds the owner's tables.</summary>
    public LeafTable?[] Slots { get; } = slots;

    /// <summary>Where in it this one stands.</summary>
    public int Index { get; } = index;

    /// <summary>Entries; read with <see cref="Volatile"/>, changed by the cache only. At most 64 sectors of them.</summary>
    public uint[] Entries { get; } = entries;

    /// <summary>Bytes.</summary>
    public int Size => Entries.Length * sizeof(uint);

    /// <summary>A bit for each of its sectors.</summary>
    public ulong AllSectors => ulong.MaxValue >> (64 - ((Entries.Length + EntriesPerSector - 1) / EntriesPerSector));

    /// <summary>Sectors that changed since they were last handed out; guarded by the cache.</summary>
    internal ulong DirtySectors { get; set; }

    /// <summary>The entry at a place.</summary>
    public uint this[int entry] => Volatile.Read(ref Entries[entry]);

    internal void Touch()
    {
        if (!_recent)
        {
            _recent = true;
        }
    }

    internal bool TakeSecondChance()
    {
        bool recent = _recent;
        _recent = false;
        return recent;
    }
}

/// <summary>A changed table on its way to disk.</summary>
/// <param name="Table">The table.</param>
/// <param name="Entries">Its entries when it was taken.</param>
/// <param name="Sectors">A bit for each sector to write.</param>
internal readonly record struct LeafTableWrite(LeafTable Table, uint[] Entries, ulong Sectors);
