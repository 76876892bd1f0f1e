namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>Where a QED or a qcow (version 1) has numbers and structures; reads a valid file, by its specification.</summary>
public sealed class TwoLevelAnatomy
{
    private readonly byte[] _image;
    private readonly bool _isQed;
    private readonly List<Field> _fields = [];
    private readonly List<(long Start, long Count)> _structures = [];

    public TwoLevelAnatomy(byte[] image)
    {
        _image = image;
        _isQed = image.AsSpan().StartsWith("QED"u8);
        (string, int, int)[] header = _isQed
            ?
            [
                ("magic", 0, 4), ("cluster size", 4, 4), ("table size", 8, 4), ("header size", 12, 4), ("features", 16, 8),
                ("compatible features", 24, 8), ("autoclear features", 32, 8), ("L1 offset", 40, 8), ("size", 48, 8),
                ("backing offset", 56, 4), ("backing size", 60, 4),
            ]
            :
            [
                ("magic", 0, 4), ("version", 4, 4), ("backing offset", 8, 8), ("backing size", 16, 4), ("time", 20, 4),
                ("size", 24, 8), ("cluster bits", 32, 1), ("L2 bits", 33, 1), ("encryption", 36, 4), ("L1 offset", 40, 8),
            ];
        foreach ((string name, int offset, int width) in header)
        {
            _fields.Add(new Field(name, offset, width, !_isQed));
        }

        _structures.Add((0, _isQed ? 64 : 48));
        AddName();
        AddTables();
    }

    public IReadOnlyList<Field> Fields => _fields;

    public IReadOnlyList<(long Start, long Count)> Structures => _structures;

    public IReadOnlyList<long> Boundaries =>
        [.. _structures.SelectMany(s => new[] { s.Start, s.Start + s.Count }), 512, _image.Length];

    private ulong Value(string field) => _fields.Single(f => f.Name == field).Read(_image);

    private ulong Word(long at) => new Field("", at, 8, !_isQed).Read(_image);

    private void AddName()
    {
        long offset = (long)Value("backing offset");
        if (offset != 0)
        {
            _structures.Add((offset, (long)Value("backing size")));
        }
    }

    private void AddTables()
    {
        long cluster = _isQed ? (long)Value("cluster size") : 1L << (int)Value("cluster bits");
        long l2Entries = _isQed ? cluster * (long)Value("table size") / 8 : 1L << (int)Value("L2 bits");
        long size = (long)Value("size");
        long l1Entries = (size + (cluster * l2Entries) - 1) / (cluster * l2Entries);
        long l1 = (long)Value("L1 offset");
        _structures.Add((l1, l1Entries * 8));
        for (long i = 0; i < Math.Min(l1Entries, 3); i++)
        {
            _fields.Add(new Field($"L1 entry {i}", l1 + (i * 8), 8, !_isQed));
            long table = (long)Word(l1 + (i * 8));
            if (table == 0)
            {
                continue;
            }

            _structures.Add((table, l2Entries * 8));
            int taken = 0;
            for (long k = 0; k < l2Entries && taken < 5; k++)
            {
                ulong entry = Word(table + (k * 8));
                if (k == 0 || entry != 0)
                {
                    _fields.Add(new Field($"L2 table {i} entry {k} (0x{entry:x})", table + (k * 8), 8, !_isQed));
                    taken++;
                }
            }
        }
    }
}
