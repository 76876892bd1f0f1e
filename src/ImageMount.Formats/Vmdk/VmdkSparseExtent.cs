using System.Numerics;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// A sparse extent: grain directory (in memory), grain tables (cached), grains ("Hosted Sparse Extents"; "ESXi Host
/// Sparse Extents", that is COWD, differ in the header and the size of tables and grains). This half looks up; <see cref="VmdkSparseWriter"/> changes.
/// </summary>
internal sealed class VmdkSparseExtent : VmdkExtent
{
    private const int LoadLocks = 16;

    private readonly BlockNode _node;
    private readonly VmdkHeader _header;
    private readonly VmdkGrainDirectory _directory;
    private readonly LeafTableCache _cache;
    private readonly LeafTable?[] _tables;
    private readonly SemaphoreSlim[] _loading = new SemaphoreSlim[LoadLocks];
    private readonly VmdkGrainDecoder _decoder;
    private readonly VmdkSparseWriter? _writer;
    private readonly int _grainShift;
    private readonly int _coverageShift;

    /// <summary>Makes the extent over what was read from its file.</summary>
    /// <param name="guestStart">First guest byte.</param>
    /// <param name="line">What the descriptor says; not longer than the header's capacity.</param>
    /// <param name="node">The file.</param>
    /// <param name="header">Its header.</param>
    /// <param name="directory">Its grain directory.</param>
    /// <param name="cache">The disk's cache of grain tables.</param>
    /// <param name="writable">The extent is to be written, if it can be.</param>
    public VmdkSparseExtent(
        long guestStart, VmdkExtentLine line, BlockNode node, VmdkHeader header, VmdkGrainDirectory directory,
        LeafTableCache cache, bool writable)
        : base(guestStart, line)
    {
        _node = node;
        _header = header;
        _directory = directory;
        _cache = cache;
        _tables = new LeafTable?[directory.Primary.Length];
        for (int i = 0; i < _loading.Length; i++)
        {
            _loading[i] = new SemaphoreSlim(1, 1);
        }

        _decoder = new VmdkGrainDecoder(guestStart, header.GrainSize);
        _grainShift = BitOperations.Log2((uint)header.GrainSize);
        _coverageShift = BitOperations.Log2((ulong)header.TableCoverage);
        WhyReadOnly = header.WhyReadOnly ?? directory.Damage;
        _writer = writable && WhyReadOnly is null ? new VmdkSparseWriter(this, cache) : null;
    }

    /// <inheritdoc/>
    public override BlockNode Node => _node;

    /// <inheritdoc/>
    public override int GrainSize => _header.GrainSize;

    /// <summary>The header's facts.</summary>
    public VmdkHeader Header => _header;

    /// <summary>The grain directory.</summary>
    public VmdkGrainDirectory Directory => _directory;

    /// <summary>COWD: from where on the header calls the file's space free; as far away as can be where it does not say.</summary>
    public long FreeOffset => _writer?.FreeOffset ?? _header.FreeOffset ?? long.MaxValue;

    /// <summary>Cached grain tables, by directory entry.</summary>
    public LeafTable?[] Tables => _tables;

    /// <inheritdoc/>
    public override string? WhyReadOnly { get; }

    /// <summary>What a grain table entry means.</summary>
    public RunKind KindOf(uint entry) => entry switch
    {
        0 => RunKind.Parent,
        VmdkLayout.ZeroedGrain when _header.HasZeroedGrains => RunKind.Zero,
        _ when _header.IsCompressed => RunKind.Compressed,
        _ => RunKind.Data,
    };

    /// <summary>Which grain table covers an offset in the extent.</summary>
    public int TableOf(long offset) => (int)(offset >> _coverageShift);

    /// <summary>Which entry of its grain table an offset in the extent has.</summary>
    public int EntryOf(long offset) => (int)(offset >> _grainShift) & (_header.EntriesPerTable - 1);

    /// <inheritdoc/>
    public override bool TryLookup(long guestOffset, long count, out MappedRun run)
    {
        long start = guestOffset - GuestStart;
        long end = start + count;
        if (!TryGetEntries(start, out LeafTable? table))
        {
            run = default;
            return false;
        }

        uint entry = table?[EntryOf(start)] ?? 0;
        RunKind kind = KindOf(entry);
        if (kind == RunKind.Compressed)
        {
            run = CompressedRun(table!, start, end, entry);
            return true;
        }

        long first = start >> _grainShift;
        long next = Join(start, end, kind, entry, table);
        long length = Math.Min(end, next) - start;
        run = kind switch
        {
            RunKind.Parent => MappedRun.Parent(length),
            RunKind.Zero => MappedRun.Zero(length),
            _ => DataRun(start, length, entry, start - (first << _grainShift)),
        };
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask LoadAsync(long guestOffset, CancellationToken cancellationToken) =>
        await GetTableAsync(TableOf(guestOffset - GuestStart), cancellationToken).ConfigureAwait(false);

    /// <summary>A grain table, from the cache or the file; null when the directory has none.</summary>
    public async ValueTask<LeafTable?> GetTableAsync(int index, CancellationToken cancellationToken)
    {
        if (LeafTableCache.Find(_tables, index) is { } cached)
        {
            return cached;
        }

        SemaphoreSlim loading = LoadLock(index);
        await loading.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            LeafTable? table = LeafTableCache.Find(_tables, index);
            uint sector = Volatile.Read(ref _directory.Primary[index]);
            if (table is null && sector != 0)
            {
                uint[] entries = await ReadTableAsync(sector, cancellationToken).ConfigureAwait(false);
                table = new LeafTable(_tables, index, entries);
                _cache.Add(table, isNew: false);
            }

            return table;
        }
        finally
        {
            loading.Release();
        }
    }

    /// <summary>Guards the loading and the making of a grain table.</summary>
    public SemaphoreSlim LoadLock(int index) => _loading[index % LoadLocks];

    /// <summary>Reads a grain table.</summary>
    /// <exception cref="BlockException">InvalidData when it does not lie inside the file.</exception>
    public async ValueTask<uint[]> ReadTableAsync(uint sector, CancellationToken cancellationToken)
    {
        long offset = (long)sector * VmdkLayout.SectorSize;
        if (!VmdkGrainDirectory.IsInside(sector, _header.TableSize, _node.Length))
        {
            throw InFile(BlockException.Invalid("a grain table lies outside the file", offset,
                $"{_header.TableSize} bytes", $"inside {_node.Length} bytes"));
        }

        using BufferLease bytes = BufferPool.Shared.Rent(_header.TableSize);
        await _node.ReadAsync(offset, bytes.Memory, cancellationToken).ConfigureAwait(false);
        return VmdkGrainDirectory.ToEntries(bytes.Span);
    }

    /// <inheritdoc/>
    public override ValueTask<WriteTarget> PrepareWriteAsync(
        long guestOffset, long count, CancellationToken cancellationToken) =>
        Writer.PrepareWriteAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<long> ZeroAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken) =>
        Writer.ZeroAsync(guestOffset, count, mayUnmap, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<long> DiscardAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        Writer.DiscardAsync(guestOffset, count, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken) =>
        _writer?.FlushAsync(cancellationToken) ?? default;

    /// <inheritdoc/>
    public override ValueTask CloseAsync() => _writer?.CloseAsync() ?? default;

    /// <summary>Names the file, not the disk, as the place of an error.</summary>
    public BlockException InFile(BlockException e)
    {
        e.Stamp(_node.Name, null);
        return e;
    }

    private VmdkSparseWriter Writer =>
        _writer ?? throw new InvalidOperationException("the map refuses writes to extents that say why");

    /// <summary>The table at an offset if it is known: cached, or null because the directory has none.</summary>
    private bool TryGetEntries(long offset, out LeafTable? table)
    {
        int index = TableOf(offset);
        table = LeafTableCache.Find(_tables, index);
        return table is not null || Volatile.Read(ref _directory.Primary[index]) == 0;
    }

    /// <summary>End of the run of equal (or, for data, successive) entries that begins at an offset.</summary>
    private long Join(long start, long end, RunKind kind, uint entry, LeafTable? table)
    {
        long grainSectors = _header.GrainSize / VmdkLayout.SectorSize;
        long expected = entry;
        long at = start >> _grainShift << _grainShift;
        while (true)
        {
            if (table is null)
            {
                at = (at >> _coverageShift) + 1 << _coverageShift;
            }
            else
            {
                int last = _header.EntriesPerTable;
                int i = EntryOf(at) + 1;
                at += _header.GrainSize;
                for (; i < last && at < end; i++, at += _header.GrainSize)
                {
                    expected += grainSectors;
                    uint next = table[i];
                    if (kind == RunKind.Data ? next != expected : KindOf(next) != kind)
                    {
                        return at;
                    }
                }
            }

            if (at >= end || !TryGetEntries(at, out table))
            {
                return at;
            }

            expected += grainSectors;
            uint head = table?[0] ?? 0;
            if (kind == RunKind.Data ? head != expected : KindOf(head) != kind)
            {
                return at;
            }
        }
    }

    private MappedRun DataRun(long start, long length, uint entry, long offsetInGrain)
    {
        long host = ((long)entry * VmdkLayout.SectorSize) + offsetInGrain;
        long available = _node.Length - host;
        if (available <= 0)
        {
            throw Outside(start, entry);
        }

        length = Math.Min(length, available);
        if (_header.IsMetadata(host, length))
        {
            throw InFile(BlockException.Invalid("a grain lies over the extent's metadata", host));
        }

        return MappedRun.Data(length, _node, host);
    }

    private MappedRun CompressedRun(LeafTable table, long start, long end, uint entry)
    {
        long grainStart = start >> _grainShift << _grainShift;
        long grainEnd = Math.Min(grainStart + _header.GrainSize, GuestEnd - GuestStart);
        long host = (long)entry * VmdkLayout.SectorSize;
        long available = _node.Length - host;
        if (available < VmdkLayout.GrainMarkerSize)
        {
            throw Outside(start, entry);
        }

        // The marker knows the length, but a look at it would be a read of its own. Grains do not overlap, so the next
        // one is a bound; deflate's own worst case, with room for clumsy writers, is another.
        long stored = VmdkLayout.GrainMarkerSize + _header.GrainSize + (_header.GrainSize / 8) + VmdkLayout.SectorSize;
        int index = EntryOf(start) + 1;
        uint next = index < _header.EntriesPerTable ? table[index] : 0;
        if (next > entry)
        {
            stored = Math.Min(stored, (long)(next - entry) * VmdkLayout.SectorSize);
        }

        var unit = new CompressedUnit(
            _node, host, (int)Math.Min(stored, available), GuestStart + grainStart, (int)(grainEnd - grainStart),
            _decoder);
        return MappedRun.Compressed(Math.Min(end, grainEnd) - start, unit);
    }

    private BlockException Outside(long start, uint entry) => InFile(BlockException.Invalid(
        $"the grain of guest offset 0x{GuestStart + start:x} lies outside the file",
        (long)entry * VmdkLayout.SectorSize, null, $"inside {_node.Length} bytes"));
}
