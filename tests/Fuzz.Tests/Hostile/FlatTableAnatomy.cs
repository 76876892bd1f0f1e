namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>Where the images of a format with one allocation table have numbers; filled by each format.</summary>
public sealed class FlatTableAnatomy
{
    private readonly byte[] _image;
    private readonly List<Field> _fields = [];
    private readonly List<(long Start, long Count)> _structures = [];

    private FlatTableAnatomy(byte[] image) => _image = image;

    public IReadOnlyList<Field> Fields => _fields;

    public IReadOnlyList<(long Start, long Count)> Structures => _structures;

    public IReadOnlyList<long> Boundaries =>
        [.. _structures.SelectMany(s => new[] { s.Start, s.Start + s.Count }), 512, _image.Length];

    /// <summary>VDI, versions 1.1 and 0.1.</summary>
    public static FlatTableAnatomy Vdi(byte[] image)
    {
        var anatomy = new FlatTableAnatomy(image);
        anatomy.AddFields(
            "header", 0, false,
            [
                ("signature", 64, 4), ("version", 68, 4), ("header size", 72, 4), ("type", 76, 4), ("flags", 80, 4),
                ("table offset", 0x154, 4), ("data offset", 0x158, 4), ("sector size", 0x168, 4), ("disk size", 0x170, 8),
                ("block size", 0x178, 4), ("block extra", 0x17c, 4), ("blocks", 0x180, 4), ("allocated", 0x184, 4),
                ("link id", 0x1a8, 8), ("parent id", 0x1b8, 8),
            ]);
        anatomy._structures.Add((0, 472));
        anatomy.AddTable(BitConverter.ToUInt32(image, 0x154), (int)BitConverter.ToUInt32(image, 0x180), false);
        return anatomy;
    }

    private void AddFields(string name, long at, bool bigEndian, IEnumerable<(string Name, int Offset, int Width)> fields)
    {
        foreach ((string field, int offset, int width) in fields)
        {
            if (at >= 0 && at + offset + width <= _image.Length)
            {
                _fields.Add(new Field($"{name} {field}", at + offset, width, bigEndian));
            }
        }
    }

    private void AddTable(long at, int entries, bool bigEndian)
    {
        _structures.Add((at, entries * 4L));
        foreach (int entry in new[] { 0, 1, entries / 2, entries - 1 }.Where(entry => entry >= 0).Distinct())
        {
            AddFields("table", at, bigEndian, [($"entry {entry}", entry * 4, 4)]);
        }
    }
}
