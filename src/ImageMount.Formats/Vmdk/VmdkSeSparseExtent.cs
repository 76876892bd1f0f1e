using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Vmdk;

/// <summary>
/// A SESPARSE extent, only read: the grain directory, in memory, numbers the grain tables; their 64-bit entries, cached
/// in pieces, number the grains. What a guest unmapped reads as zeroes and not as the parent's data.
/// </summary>
internal sealed class VmdkSeSparseExtent : VmdkExtent
{
    private const int SliceEntries = 512;
    private const int SliceSize = SliceEntries * sizeof(ulong);
    private const int GrainShift = 12;
    private const int SliceShift = GrainShift + 9;
    private const int TableShift = GrainShift + 12;

    private readonly BlockNode _node;
    private readonly VmdkSeSparseHeader _header;
    private readonly uint[] _tables;
    private readonly TableCache _cache;

    private VmdkSeSparseExtent(
        long guestStart, VmdkExtentLine line, BlockNode node, VmdkSeSparseHeader header, uint[] tables,
        long tableCacheBytes)
        : base(guestStart, line)
    {
        _node = node;
        _header = header;
        _tables = tables;
        _cache = new TableCache(node, new Lock(), SliceSize, tableCacheBytes, WordOrder.LittleEndian);
    }

    /// <inheritdoc/>
    public override BlockNode Node => _node;

    /// <inheritdoc/>
    public override int GrainSize => VmdkSeSparseHeader.GrainSize;

    /// <inheritdoc/>
    public override string WhyReadOnly => "SESPARSE extents are only read";

    /// <summary>The headers' facts.</summary>
    public VmdkSeSparseHeader Header => _header;

    /// <summary>For each directory entry: 0, or the number of its grain table and 1.</summary>
    public IReadOnlyList<uint> Tables => _tables;

    /// <summary>Reads the directory and makes the extent.</summary>
    public static async ValueTask<VmdkSeSparseExtent> OpenAsync(
        long guestStart, VmdkExtentLine line, BlockNode node, VmdkSeSparseHeader header, long tableCacheBytes,
        CancellationToken cancellationToken)
    {
        var tables = new uint[header.DirectoryEntries];
        const int Step = 128 << 10;
        using BufferLease bytes = BufferPool.Shared.Rent(Math.Min(Step, tables.Length) * sizeof(ulong));
        for (int first = 0; first < tables.Length; first += Step)
        {
            int count = Math.Min(Step, tables.Length - first);
            await node.ReadAsync(
                header.DirectoryOffset + ((long)first * sizeof(ulong)), bytes.Memory[..(count * sizeof(ulong))],
                cancellationToken).ConfigureAwait(false);
            for (int i = 0; i < count; i++)
            {
                tables[first + i] = ToTable(bytes.Span[(i * sizeof(ulong))..], first + i, header);
            }
        }

        return new VmdkSeSparseExtent(guestStart, line, node, header, tables, tableCacheBytes);
    }

    /// <summary>What a grain table entry means, and the number of its grain.</summary>
    public static bool TryDecode(ulong entry, out RunKind kind, out long grain)
    {
        grain = (long)((entry >> 48 & 0xfff) | (entry & 0xffff_ffff_ffff) << 12);
        kind = (entry >> 60) switch
        {
            0 => RunKind.Parent,
            3 => RunKind.Data,
            _ => RunKind.Zero, // 1: unmapped, what it names is garbage; 2: zeroes.
        };
        return entry >> 60 <= 3 && (entry >> 60 != 0 || entry == 0);
    }

    /// <summary>Where a grain table is.</summary>
    public long TableOffset(uint table) => _header.TablesOffset + ((long)(table - 1) * VmdkSeSparseHeader.TableSize);

    /// <summary>True when a grain has room and lies inside the file, as far as it is the guest's.</summary>
    public bool IsInside(long grain, long bytes) =>
        grain < _header.Grains && _header.GrainsOffset + (grain << GrainShift) <= _node.Length - bytes;

    /// <inheritdoc/>
    public override bool TryLookup(long guestOffset, long count, out MappedRun run)
    {
        long start = guestOffset - GuestStart;
        long end = start + count;
        var scan = new Scan { At = start, End = end };
        while (scan.At < end && !scan.IsDone)
        {
            if (!TryScanSlice(ref scan))
            {
                break;
            }
        }

        if (scan.At == start)
        {
            run = default;
            return false;
        }

        long length = Math.Min(scan.At, end) - start;
        run = scan.Kind switch
        {
            RunKind.Parent => MappedRun.Parent(length),
            RunKind.Zero => MappedRun.Zero(length),
            _ => DataRun(start, length, scan.Grain),
        };
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask LoadAsync(long guestOffset, CancellationToken cancellationToken)
    {
        long offset = guestOffset - GuestStart;
        if (_tables[offset >> TableShift] != 0)
        {
            await _cache.GetAsync(SliceKey(offset)).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override ValueTask<WriteTarget> PrepareWriteAsync(
        long guestOffset, long count, CancellationToken cancellationToken) =>
        throw new InvalidOperationException("the map refuses writes to extents that say why");

    /// <inheritdoc/>
    public override ValueTask<long> ZeroAsync(
        long guestOffset, long count, bool mayUnmap, CancellationToken cancellationToken) =>
        throw new InvalidOperationException("the map refuses writes to extents that say why");

    /// <inheritdoc/>
    public override ValueTask<long> DiscardAsync(long guestOffset, long count, CancellationToken cancellationToken) =>
        new(count);

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken) => default;

    private static uint ToTable(ReadOnlySpan<byte> stored, int index, VmdkSeSparseHeader header)
    {
        ulong entry = BinaryPrimitives.ReadUInt64LittleEndian(stored);
        if (entry == 0)
        {
            return 0;
        }

        uint table = (uint)entry;
        return entry >> 32 == 0x1000_0000 && table < header.Tables && table < uint.MaxValue
            ? table + 1
            : throw BlockException.Invalid(
                $"entry {index} of the grain directory is impossible", header.DirectoryOffset + ((long)index * 8),
                $"0x{entry:x}", $"0, or 0x10000000 and a table below {header.Tables}");
    }

    private long SliceKey(long offset) =>
        TableOffset(_tables[offset >> TableShift])
        + ((offset >> SliceShift & ((1 << (TableShift - SliceShift)) - 1)) * SliceSize);

    /// <summary>Follows the run through one piece of a table; false when that is not at hand.</summary>
    private bool TryScanSlice(ref Scan scan)
    {
        if (_tables[scan.At >> TableShift] == 0)
        {
            scan.Take(RunKind.Parent, 0, (scan.At >> TableShift) + 1 << TableShift);
            return true;
        }

        long key = SliceKey(scan.At);
        TableSlice? slice = _cache.TryFind(key);
        if (slice is null || !slice.TryBeginRead(key, out int version))
        {
            return false;
        }

        Scan before = scan;
        ulong wrong = 0;
        long sliceEnd = (scan.At >> SliceShift) + 1 << SliceShift;
        while (scan.At < sliceEnd && scan.At < scan.End && !scan.IsDone)
        {
            ulong entry = slice.Word((int)(scan.At >> GrainShift & (SliceEntries - 1)));
            if (!TryDecode(entry, out RunKind kind, out long grain))
            {
                wrong = entry;
                break;
            }

            scan.Take(kind, grain, (scan.At >> GrainShift) + 1 << GrainShift);
        }

        if (!slice.EndRead(version))
        {
            scan = before;
            return false;
        }

        if (wrong != 0 && scan.IsEmpty)
        {
            throw Stamp(BlockException.Invalid("a grain table entry is impossible", key, $"0x{wrong:x}",
                "type 0 (nothing), 1 (unmapped), 2 (zeroes) or 3 (a grain)"));
        }

        scan.IsDone |= wrong != 0;
        return true;
    }

    private MappedRun DataRun(long start, long length, long grain)
    {
        long usable = 0;
        long host = 0;
        if (grain < _header.Grains)
        {
            host = _header.GrainsOffset + (grain << GrainShift) + (start & (GrainSize - 1));
            usable = Math.Min(_header.GrainsOffset + (_header.Grains << GrainShift), _node.Length) - host;
        }

        return usable > 0
            ? MappedRun.Data(Math.Min(length, usable), _node, host)
            : throw Stamp(BlockException.Invalid(
                $"the grain of guest offset 0x{GuestStart + start:x} lies outside the file", null, $"grain {grain}",
                $"one of {_header.Grains}, inside {_node.Length} bytes"));
    }

    private BlockException Stamp(BlockException e)
    {
        e.Stamp(_node.Name, null);
        return e;
    }

    /// <summary>A run under construction.</summary>
    private struct Scan
    {
        /// <summary>End of the run so far, offset in the extent.</summary>
        public long At;

        /// <summary>Where the caller's interest ends.</summary>
        public long End;

        /// <summary>What the run is, once it has begun.</summary>
        public RunKind Kind;

        /// <summary>Its first grain.</summary>
        public long Grain;

        /// <summary>What comes next does not belong to it.</summary>
        public bool IsDone;

        private long _next;
        private bool _begun;

        /// <summary>True before the run has begun.</summary>
        public readonly bool IsEmpty => !_begun;

        /// <summary>Adds what lies before an offset, if it continues the run.</summary>
        public void Take(RunKind kind, long grain, long until)
        {
            if (!_begun)
            {
                (Kind, Grain, _begun) = (kind, grain, true);
            }
            else if (kind != Kind || (kind == RunKind.Data && grain != _next))
            {
                IsDone = true;
                return;
            }

            _next = grain + 1;
            At = until;
        }
    }
}
