using System.Buffers.Binary;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>Where a qcow2 image has numbers and structures; reads a valid image, by the specification.</summary>
public sealed class Qcow2Anatomy
{
    private const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;

    private readonly byte[] _image;
    private readonly List<Field> _fields = [];
    private readonly List<(long Start, long Count)> _structures = [];

    public Qcow2Anatomy(byte[] image)
    {
        _image = image;
        int cluster = 1 << (int)U32(20);
        bool isV3 = U32(4) == 3;
        AddHeader(isV3);
        long l1 = (long)U64(40);
        int entries = (int)U32(36);
        bool extended = isV3 && (U64(72) & 16) != 0;
        AddTable("L1", l1, entries, 5);
        AddMapping(l1, entries, cluster, extended ? 16 : 8);
        long refcounts = (long)U64(48);
        AddTable("refcount table", refcounts, (int)U32(56) * cluster / 8, 3);
        long block = (long)U64((int)refcounts);
        _structures.Add((block, cluster));
        for (int i = 0; i < 6; i++)
        {
            Add($"refcount bytes {i}", block + i * 7, 2);
        }

        AddSnapshots();
        AddExtensions(isV3 ? (int)U32(100) : 72, cluster);
    }

    public IReadOnlyList<Field> Fields => _fields;

    public IReadOnlyList<(long Start, long Count)> Structures => _structures;

    public IReadOnlyList<long> Boundaries =>
        [.. _structures.SelectMany(s => new[] { s.Start, s.Start + s.Count }), 72, 100, 104, 112, _image.Length];

    private void AddHeader(bool isV3)
    {
        (string, int, int)[] fields =
        [
            ("magic", 0, 4), ("version", 4, 4), ("backing offset", 8, 8), ("backing size", 16, 4), ("cluster bits", 20, 4),
            ("size", 24, 8), ("crypt method", 32, 4), ("L1 size", 36, 4), ("L1 offset", 40, 8), ("refcount table", 48, 8),
            ("refcount clusters", 56, 4), ("snapshots", 60, 4), ("snapshot table", 64, 8),
        ];
        (string, int, int)[] more =
        [
            ("incompatible", 72, 8), ("compatible", 80, 8), ("autoclear", 88, 8), ("refcount order", 96, 4),
            ("header length", 100, 4), ("compression", 104, 1),
        ];
        foreach ((string name, int offset, int width) in isV3 ? [.. fields, .. more] : fields)
        {
            Add(name, offset, width);
        }

        _structures.Add((0, isV3 ? 512 : 256));
    }

    private void AddTable(string name, long offset, int entries, int most)
    {
        _structures.Add((offset, entries * 8L));
        int taken = 0;
        for (int i = 0; i < entries && taken < most; i++)
        {
            if (i == 0 || i == entries - 1 || U64((int)offset + i * 8) != 0)
            {
                Add($"{name} entry {i}", offset + i * 8, 8);
                taken++;
            }
        }
    }

    private void AddMapping(long l1, int entries, int cluster, int entrySize)
    {
        int tables = 0;
        for (int i = 0; i < entries && tables < 2; i++)
        {
            long l2 = (long)(U64((int)l1 + i * 8) & OffsetMask);
            if (l2 == 0)
            {
                continue;
            }

            tables++;
            _structures.Add((l2, cluster));
            var seen = new HashSet<ulong>();
            for (int k = 0; k < cluster / entrySize; k++)
            {
                // Two of each kind: data, compressed, zero, with and without COPIED.
                ulong entry = U64((int)l2 + k * entrySize);
                ulong kind = (entry >> 62) | (entry & 1) << 2 | ((entry & OffsetMask) == 0 ? 8UL : 0);
                if (seen.Add(kind) || seen.Add(kind | 16))
                {
                    Add($"L2 {i} entry {k}", l2 + k * entrySize, 8);
                    if (entrySize == 16)
                    {
                        Add($"L2 {i} bitmap {k}", l2 + k * entrySize + 8, 8);
                    }
                }
            }
        }
    }

    private void AddSnapshots()
    {
        if (U32(60) == 0)
        {
            return;
        }

        long at = (long)U64(64);
        _structures.Add((at, 100));
        (string, int, int)[] fields =
        [
            ("L1", 0, 8), ("L1 size", 8, 4), ("id size", 12, 2), ("name size", 14, 2), ("date", 16, 4), ("nanoseconds", 20, 4),
            ("clock", 24, 8), ("state size", 32, 4), ("extra size", 36, 4), ("large state", 40, 8), ("disk size", 48, 8),
        ];
        foreach ((string name, int offset, int width) in fields)
        {
            Add($"snapshot's {name}", at + offset, width);
        }

        AddTable("snapshot's L1", (long)U64((int)at), (int)U32((int)at + 8), 3);
    }

    private void AddExtensions(int at, int cluster)
    {
        while (at + 8 <= cluster && U32(at) != 0)
        {
            int length = (int)U32(at + 4);
            Add($"extension at {at}: type", at, 4);
            Add($"extension at {at}: length", at + 4, 4);
            if (U32(at) == 0x0537be77)
            {
                Add("encryption header", at + 8, 8);
                Add("encryption header's length", at + 16, 8);
                foreach (int field in (int[])[0, 6, 8, 40, 104, 108, 164, 208, 212, 248, 252])
                {
                    Add($"LUKS header at {field}", (long)U64(at + 8) + field, 4);
                }

                _structures.Add(((long)U64(at + 8), 592));
            }

            if (U32(at) == 0x23852875)
            {
                AddBitmaps(at + 8);
            }

            at += 8 + (length + 7 & -8);
        }
    }

    private void AddBitmaps(int extension)
    {
        Add("bitmaps", extension, 4);
        Add("bitmap directory size", extension + 8, 8);
        Add("bitmap directory", extension + 16, 8);
        long directory = (long)U64(extension + 16);
        _structures.Add((directory, (long)U64(extension + 8)));
        (string, int, int)[] fields =
        [
            ("table", 0, 8), ("table size", 8, 4), ("flags", 12, 4), ("type", 16, 1), ("granularity", 17, 1),
            ("name size", 18, 2), ("extra size", 20, 4),
        ];
        foreach ((string name, int offset, int width) in fields)
        {
            Add($"bitmap's {name}", directory + offset, width);
        }

        AddTable("bitmap table", (long)U64((int)directory), (int)U32((int)directory + 8), 2);
    }

    private void Add(string name, long offset, int width)
    {
        if (offset >= 0 && offset + width <= _image.Length)
        {
            _fields.Add(new Field(name, offset, width, true));
        }
    }

    private uint U32(int at) => BinaryPrimitives.ReadUInt32BigEndian(_image.AsSpan(at));

    private ulong U64(int at) => BinaryPrimitives.ReadUInt64BigEndian(_image.AsSpan(at));
}
