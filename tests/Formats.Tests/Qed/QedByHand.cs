using System.Buffers.Binary;
using ImageMount.Formats.Tests.TwoLevel;
using ImageMount.TestSupport;

namespace ImageMount.Formats.Tests.Qed;

/// <summary>QED images written by hand from the specification: what no program makes.</summary>
internal sealed class QedByHand
{
    private readonly byte[] _image;
    private readonly int _cluster;
    private readonly int _table;

    /// <summary>Header, L1 table, one L2 table at cluster 1 + 2 × table, then room for data.</summary>
    public QedByHand(long size, int clusterSize = 4096, int tableSize = 2, int clusters = 16)
    {
        _cluster = clusterSize;
        _table = tableSize;
        _image = new byte[clusters * clusterSize];
        Put32(0, 0x00444551);
        Put32(4, (uint)clusterSize);
        Put32(8, (uint)tableSize);
        Put32(12, 1);
        Put64(40, (ulong)clusterSize);
        Put64(48, (ulong)size);
        SetL1(0, L2);
    }

    public byte[] Image => _image;

    /// <summary>Where the L2 table is.</summary>
    public ulong L2 => (ulong)((1 + _table) * _cluster);

    /// <summary>Place of a data cluster, counted from the first behind the tables.</summary>
    public ulong Data(int index) => (ulong)((1 + (2 * _table) + index) * _cluster);

    public ulong Features
    {
        get => BinaryPrimitives.ReadUInt64LittleEndian(_image.AsSpan(16));
        set => Put64(16, value);
    }

    public QedByHand SetL1(int index, ulong entry)
    {
        Put64(_cluster + (index * 8), entry);
        return this;
    }

    public QedByHand SetL2(int index, ulong entry)
    {
        Put64((int)L2 + (index * 8), entry);
        return this;
    }

    /// <summary>Fills a data cluster.</summary>
    public QedByHand Fill(int index, byte value)
    {
        _image.AsSpan((int)Data(index), _cluster).Fill(value);
        return this;
    }

    public QedByHand Put32(int at, uint value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_image.AsSpan(at), value);
        return this;
    }

    public QedByHand Put64(int at, ulong value)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(_image.AsSpan(at), value);
        return this;
    }

    public Task<(Graph Graph, MemoryDevice Device)> OpenAsync(OpenFlags flags, OptionMap? options = null) =>
        TwoLevelImages.OpenAsync("qed", _image, flags, options);
}
