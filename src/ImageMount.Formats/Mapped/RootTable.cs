using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Mapped;

/// <summary>
/// A table of 64-bit words that is wholly in memory: an L1 table or a refcount table. Readers take no lock; changes
/// happen under the image's lock and are remembered by sector, so that only those are written: an entry never straddles
/// one, so a torn write leaves each old or new.
/// </summary>
internal sealed class RootTable
{
    private const int SectorEntries = 512 / sizeof(ulong);
    private readonly HashSet<int> _dirtySectors = [];
    private readonly WordOrder _order;
    private ulong[] _entries;

    public RootTable(long offset, ulong[] entries, WordOrder order)
    {
        Offset = offset;
        _entries = entries;
        _order = order;
    }

    /// <summary>Where the table is.</summary>
    public long Offset { get; private set; }

    /// <summary>Entries.</summary>
    public int Count => Volatile.Read(ref _entries).Length;

    /// <summary>True when an entry differs from the file.</summary>
    public bool IsDirty => _dirtySectors.Count > 0;

    /// <summary>An entry; 0 past the end.</summary>
    public ulong this[long index]
    {
        get
        {
            ulong[] entries = Volatile.Read(ref _entries);
            return (ulong)index < (ulong)entries.Length ? Volatile.Read(ref entries[index]) : 0;
        }
    }

    /// <summary>Reads a table whose place was checked.</summary>
    public static async ValueTask<RootTable> ReadAsync(
        BlockNode file, long offset, int count, WordOrder order, CancellationToken cancellationToken)
    {
        var entries = new ulong[count];
        const int Step = 128 << 10;
        using BufferLease buffer = BufferPool.Shared.Rent(Step);
        for (int done = 0; done < count;)
        {
            int part = Math.Min(count - done, Step / sizeof(ulong));
            Memory<byte> bytes = buffer.Memory[..(part * sizeof(ulong))];
            await file.ReadAsync(offset + done * 8L, bytes, cancellationToken).ConfigureAwait(false);
            for (int i = 0; i < part; i++)
            {
                entries[done + i] = order.Read(bytes.Span[(i * 8)..]);
            }

            done += part;
        }

        return new RootTable(offset, entries, order);
    }

    /// <summary>Changes an entry; under the image's lock.</summary>
    public void Set(long index, ulong value)
    {
        Volatile.Write(ref _entries[index], value);
        _dirtySectors.Add((int)(index / SectorEntries));
    }

    /// <summary>Moves the table, with more entries; under the image's lock. All of it is dirty then.</summary>
    public void MoveTo(long offset, int count)
    {
        var entries = new ulong[count];
        Array.Copy(_entries, entries, Math.Min(count, _entries.Length));
        Volatile.Write(ref _entries, entries);
        Offset = offset;
        MarkAll();
    }

    /// <summary>
    /// Appends entries of 0, which are dirty, for a table that has room in its place; under the image's lock.
    /// </summary>
    public void Extend(int count)
    {
        int first = _entries.Length;
        var entries = new ulong[count];
        Array.Copy(_entries, entries, first);
        Volatile.Write(ref _entries, entries);
        for (int i = first / SectorEntries; i < (count + SectorEntries - 1) / SectorEntries; i++)
        {
            _dirtySectors.Add(i);
        }
    }

    /// <summary>Makes everything dirty; under the image's lock.</summary>
    public void MarkAll()
    {
        for (int i = 0; i < (_entries.Length + SectorEntries - 1) / SectorEntries; i++)
        {
            _dirtySectors.Add(i);
        }
    }

    /// <summary>Copies what is dirty, for writing; under the image's lock.</summary>
    public Capture CaptureDirty()
    {
        var sectors = new int[_dirtySectors.Count];
        _dirtySectors.CopyTo(sectors);
        Array.Sort(sectors);
        _dirtySectors.Clear();
        var bytes = new byte[sectors.Length * 512];
        for (int i = 0; i < sectors.Length; i++)
        {
            int first = sectors[i] * SectorEntries;
            int count = Math.Min(SectorEntries, _entries.Length - first);
            for (int k = 0; k < count; k++)
            {
                _order.Write(bytes.AsSpan(i * 512 + k * 8), _entries[first + k]);
            }
        }

        return new Capture(Offset, _entries.Length, sectors, bytes);
    }

    /// <summary>Takes back what could not be written; under the image's lock.</summary>
    public void Restore(Capture capture)
    {
        foreach (int sector in capture.Sectors)
        {
            _dirtySectors.Add(sector);
        }
    }

    /// <summary>Copies of dirty sectors.</summary>
    /// <param name="Offset">Where the table is.</param>
    /// <param name="Count">Entries of the table.</param>
    /// <param name="Sectors">Which sectors, ascending.</param>
    /// <param name="Bytes">Their bytes, 512 each.</param>
    internal sealed record Capture(long Offset, int Count, int[] Sectors, byte[] Bytes)
    {
        /// <summary>True when there is nothing to write.</summary>
        public bool IsEmpty => Sectors.Length == 0;

        /// <summary>Writes them; not past the last entry, where the file may end.</summary>
        public async ValueTask WriteAsync(BlockNode file, CancellationToken cancellationToken)
        {
            const int MaxSectors = 2048;
            for (int from = 0; from < Sectors.Length;)
            {
                int to = from + 1;
                while (to < Sectors.Length && Sectors[to] == Sectors[to - 1] + 1 && to - from < MaxSectors)
                {
                    to++;
                }

                long start = Sectors[from] * 512L;
                int count = (int)Math.Min((to - from) * 512L, Count * 8L - start);
                await file.WriteAsync(
                    Offset + start, Bytes.AsMemory(from * 512, count), WriteFlags.None, cancellationToken)
                    .ConfigureAwait(false);
                from = to;
            }
        }
    }
}
