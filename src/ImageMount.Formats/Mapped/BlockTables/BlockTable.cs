using System.Buffers.Binary;
using System.Runtime.InteropServices;
using ImageMount.Core.Block;
using ImageMount.Core.Memory;

namespace ImageMount.Formats.Mapped.BlockTables;

/// <summary>
/// A flat table, paged in: looks guest ranges up, and stores changed pieces. A piece that is cached is found without a
/// lock; successive entries join to one run over any number of cached pieces.
/// </summary>
internal sealed class BlockTable
{
    /// <summary>Entries of a piece: 4 KiB, one page.</summary>
    public const int LeafEntries = 1024;

    private const int LoadLocks = 16;

    /// <summary>Pieces kept: the table of 1 TiB in units of 1 MiB.</summary>
    private const long CacheBytes = 4 << 20;

    private readonly BlockTableLayout _layout;
    private readonly BlockNode _node;
    private readonly LeafTable?[] _leaves;
    private readonly SemaphoreSlim[] _loading = new SemaphoreSlim[LoadLocks];
    private readonly int _unitSize;
    private readonly int _unitShift;
    private readonly uint _step;
    private readonly bool _joins;

    /// <summary>Makes the table over a layout that was validated.</summary>
    public BlockTable(BlockTableLayout layout)
    {
        layout.Validate();
        _layout = layout;
        _node = layout.Node;
        _leaves = new LeafTable?[(layout.Entries + LeafEntries - 1) / LeafEntries];
        for (int i = 0; i < _loading.Length; i++)
        {
            _loading[i] = new SemaphoreSlim(1, 1);
        }

        _unitSize = layout.UnitSize;
        _unitShift = layout.UnitShift;
        _step = layout.Step;
        _joins = layout.LeadSize == 0;
    }

    /// <summary>What the format says of it.</summary>
    public BlockTableLayout Layout => _layout;

    /// <summary>Cached pieces.</summary>
    public LeafTableCache Cache { get; } = new(CacheBytes);

    /// <summary>Their places.</summary>
    public LeafTable?[] Leaves => _leaves;

    /// <summary>The unit that holds a guest offset.</summary>
    public long UnitOf(long guestOffset) => _unitShift >= 0 ? guestOffset >> _unitShift : guestOffset / _unitSize;

    /// <summary>The run at an offset, from cached pieces only. False: load the piece first.</summary>
    public bool TryLookup(long guestOffset, long count, out MappedRun run)
    {
        long unit = UnitOf(guestOffset);
        long end = guestOffset + count;
        LeafTable? leaf = LeafTableCache.Find(_leaves, (int)(unit / LeafEntries));
        if (leaf is null)
        {
            run = default;
            return false;
        }

        uint entry = leaf[(int)(unit % LeafEntries)];
        RunKind kind = _layout.KindOf(entry);
        long unitStart = unit * _unitSize;
        long runEnd = kind == RunKind.Data && !_joins
            ? unitStart + _unitSize
            : Join(unit, unitStart + _unitSize, end, kind, entry, leaf);
        long length = Math.Min(runEnd, end) - guestOffset;
        run = kind switch
        {
            RunKind.Parent => MappedRun.Parent(length),
            RunKind.Zero => MappedRun.Zero(length),
            _ => DataRun(guestOffset, length, _layout.PlaceOf(entry), guestOffset - unitStart),
        };
        return true;
    }

    /// <summary>The piece with a unit's entry, from the cache or the file.</summary>
    public ValueTask<LeafTable> GetLeafAsync(long unit, CancellationToken cancellationToken)
    {
        int index = (int)(unit / LeafEntries);
        return LeafTableCache.Find(_leaves, index) is { } leaf ? new(leaf) : LoadAsync(index, cancellationToken);
    }

    /// <summary>Writes the changed sectors of pieces to the file.</summary>
    public async ValueTask WriteAsync(List<LeafTableWrite> writes, CancellationToken cancellationToken)
    {
        using BufferLease bytes = BufferPool.Shared.Rent(LeafEntries * sizeof(uint));
        foreach (LeafTableWrite write in writes)
        {
            Store(write.Entries, bytes.Span);
            long leafOffset = _layout.TableOffset + ((long)write.Table.Index * LeafEntries * sizeof(uint));
            int size = write.Entries.Length * sizeof(uint);
            ulong sectors = write.Sectors;
            while (sectors != 0)
            {
                int first = System.Numerics.BitOperations.TrailingZeroCount(sectors);
                int count = System.Numerics.BitOperations.TrailingZeroCount(~(sectors >> first));
                int start = first * 512;
                int length = Math.Min(count * 512, size - start);
                await _node.WriteAsync(
                    leafOffset + start, bytes.Memory.Slice(start, length), WriteFlags.None, cancellationToken)
                    .ConfigureAwait(false);
                sectors &= first + count >= 64 ? 0 : ulong.MaxValue << (first + count);
            }
        }
    }

    /// <summary>Entries as they are stored in a new table.</summary>
    public static void Store(ReadOnlySpan<uint> entries, Span<byte> target, bool bigEndian)
    {
        Span<uint> words = MemoryMarshal.Cast<byte, uint>(target)[..entries.Length];
        if (bigEndian == BitConverter.IsLittleEndian)
        {
            BinaryPrimitives.ReverseEndianness(entries, words);
        }
        else
        {
            entries.CopyTo(words);
        }
    }

    private void Store(ReadOnlySpan<uint> entries, Span<byte> target) => Store(entries, target, _layout.IsBigEndian);

    private async ValueTask<LeafTable> LoadAsync(int index, CancellationToken cancellationToken)
    {
        SemaphoreSlim loading = _loading[index % LoadLocks];
        await loading.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (LeafTableCache.Find(_leaves, index) is { } found)
            {
                return found;
            }

            int first = index * LeafEntries;
            var entries = new uint[Math.Min(LeafEntries, _layout.Entries - first)];
            using BufferLease bytes = BufferPool.Shared.Rent(entries.Length * sizeof(uint));
            await _node.ReadAsync(
                _layout.TableOffset + ((long)first * sizeof(uint)), bytes.Memory, cancellationToken)
                .ConfigureAwait(false);
            Store(MemoryMarshal.Cast<byte, uint>(bytes.Span), MemoryMarshal.AsBytes(entries.AsSpan()));
            var leaf = new LeafTable(_leaves, index, entries);
            Cache.Add(leaf, isNew: false);
            return leaf;
        }
        finally
        {
            loading.Release();
        }
    }

    /// <summary>End of the run that goes on after a unit with equal or, for data, successive entries.</summary>
    private long Join(long unit, long at, long end, RunKind kind, uint entry, LeafTable? leaf)
    {
        long expected = entry;
        while (at < end)
        {
            int index = (int)(++unit % LeafEntries);
            if (index == 0 && (leaf = LeafTableCache.Find(_leaves, (int)(unit / LeafEntries))) is null)
            {
                break;
            }

            uint next = leaf![index];
            expected += _step;
            if (kind == RunKind.Data ? next != expected || _layout.KindOf(next) != kind : _layout.KindOf(next) != kind)
            {
                break;
            }

            at += _unitSize;
        }

        return at;
    }

    private MappedRun DataRun(long guestOffset, long length, long place, long offsetInUnit)
    {
        long host = place + _layout.LeadSize + offsetInUnit;
        long available = _node.Length - host;
        if (available <= 0)
        {
            throw BlockException.Invalid(
                $"the {_layout.UnitName} of guest offset 0x{guestOffset:x} lies outside the file", host, null,
                $"inside 0x{_node.Length:x}");
        }

        length = Math.Min(length, available);
        if (_layout.IsMetadata(place, host + length - place))
        {
            throw BlockException.Invalid(
                $"the {_layout.UnitName} of guest offset 0x{guestOffset:x} lies over the image's metadata", host);
        }

        return MappedRun.Data(length, _node, host);
    }
}
