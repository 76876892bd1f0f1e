using System.Buffers.Binary;
using ImageMount.Core.Block;
using ImageMount.Formats.Mapped;

namespace ImageMount.Formats.Qcow2;

/// <summary>Reference counts of any width within the bytes of a block ("Host cluster management").</summary>
public static class Qcow2RefcountBits
{
    /// <summary>Reads a count.</summary>
    /// <param name="block">The block, or a part of it that begins at a whole byte.</param>
    /// <param name="order">log2 of the width in bits, 0…6.</param>
    /// <param name="index">Which count, from the beginning of <paramref name="block"/>.</param>
    public static ulong Get(ReadOnlySpan<byte> block, int order, int index) => order switch
    {
        6 => BinaryPrimitives.ReadUInt64BigEndian(block[(index * 8)..]),
        5 => BinaryPrimitives.ReadUInt32BigEndian(block[(index * 4)..]),
        4 => BinaryPrimitives.ReadUInt16BigEndian(block[(index * 2)..]),
        3 => block[index],
        _ => (ulong)(block[index >> 3 - order] >> Shift(order, index) & (1 << (1 << order)) - 1),
    };

    /// <summary>Stores a count that fits its width.</summary>
    public static void Set(Span<byte> block, int order, int index, ulong value)
    {
        switch (order)
        {
            case 6:
                BinaryPrimitives.WriteUInt64BigEndian(block[(index * 8)..], value);
                break;
            case 5:
                BinaryPrimitives.WriteUInt32BigEndian(block[(index * 4)..], (uint)value);
                break;
            case 4:
                BinaryPrimitives.WriteUInt16BigEndian(block[(index * 2)..], (ushort)value);
                break;
            case 3:
                block[index] = (byte)value;
                break;
            default:
                ref byte cell = ref block[index >> 3 - order];
                int mask = (1 << (1 << order)) - 1 << Shift(order, index);
                cell = (byte)(cell & ~mask | (int)value << Shift(order, index));
                break;
        }
    }

    private static int Shift(int order, int index) => (index & (1 << 3 - order) - 1) << order;
}

/// <summary>
/// The refcount table, in memory, and the cached refcount blocks. Everything here is under the image's lock; where a
/// slice is not at hand the caller is told which one, reads it outside the lock, and asks again.
/// </summary>
internal sealed class Qcow2Refcounts
{
    private readonly Qcow2Geometry _geometry;
    private readonly int _sliceShift;

    public Qcow2Refcounts(Qcow2Image image, RootTable table, long cacheBytes)
    {
        _geometry = image.Geometry;
        _sliceShift = _geometry.SliceBits + 3 - _geometry.RefcountOrder;
        Table = table;
        Cache = new TableCache(image.File, image.Sync, _geometry.SliceSize, cacheBytes, WordOrder.BigEndian);
    }

    /// <summary>Offsets of the blocks.</summary>
    public RootTable Table { get; }

    /// <summary>Cached slices of blocks.</summary>
    public TableCache Cache { get; }

    /// <summary>Clusters that one slice counts.</summary>
    public long ClustersPerSlice => 1L << _sliceShift;

    /// <summary>Index in the table of the block that counts a cluster.</summary>
    public long BlockIndex(long cluster) => cluster >> _geometry.RefcountBlockBits;

    /// <summary>Host offset of a block, checked; 0: not there, all its counts are 0.</summary>
    public long BlockOffset(long blockIndex)
    {
        ulong entry = Table[blockIndex];
        if ((entry & (uint)(_geometry.ClusterSize - 1)) != 0 || entry >= Qcow2Layout.MaxHostOffset)
        {
            throw BlockException.Invalid(
                "a refcount table entry is invalid", Table.Offset + blockIndex * 8, $"0x{entry:x16}",
                "a cluster's offset below 2^56");
        }

        return (long)entry;
    }

    /// <summary>Key of the slice that counts a cluster; 0 when there is no block.</summary>
    public long SliceKey(long cluster)
    {
        long block = BlockOffset(BlockIndex(cluster));
        long sliceInBlock = cluster >> _sliceShift & (1L << _geometry.ClusterBits - _geometry.SliceBits) - 1;
        return block == 0 ? 0 : block + (sliceInBlock << _geometry.SliceBits);
    }

    /// <summary>First cluster after those that the same slice counts.</summary>
    public long SliceEnd(long cluster) => (cluster >> _sliceShift) + 1 << _sliceShift;

    /// <summary>A count. False: its slice has to be read first.</summary>
    public bool TryGet(long cluster, out ulong count, out long missing)
    {
        count = 0;
        missing = SliceKey(cluster);
        if (missing == 0)
        {
            return true;
        }

        TableSlice? slice = Cache.Find(missing);
        if (slice is null)
        {
            return false;
        }

        count = Get(slice, cluster);
        return true;
    }

    /// <summary>A count of a slice that is at hand.</summary>
    public ulong Get(TableSlice slice, long cluster) =>
        Qcow2RefcountBits.Get(slice.Bytes, _geometry.RefcountOrder, (int)(cluster & ClustersPerSlice - 1));

    /// <summary>Stores a count.</summary>
    public void Set(TableSlice slice, long cluster, ulong count)
    {
        slice.BeginChange();
        Qcow2RefcountBits.Set(slice.Bytes, _geometry.RefcountOrder, (int)(cluster & ClustersPerSlice - 1), count);
        slice.EndChange();
        Cache.MarkDirty(slice);
    }
}
