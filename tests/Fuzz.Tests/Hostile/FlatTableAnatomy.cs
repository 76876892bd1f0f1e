using System.Buffers.Binary;

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

    /// <summary>VHD of any type.</summary>
    public static FlatTableAnatomy Vpc(byte[] image)
    {
        var anatomy = new FlatTableAnatomy(image);
        bool isFixed = !image.AsSpan().StartsWith("conectix"u8);
        foreach (int at in isFixed ? (int[])[image.Length - 512] : [0, image.Length - 512])
        {
            anatomy.AddFields(
                "footer", at, true,
                [
                    ("cookie", 0, 8), ("data offset", 16, 8), ("creator", 28, 4), ("current size", 48, 8),
                    ("geometry", 56, 4), ("type", 60, 4), ("checksum", 64, 4),
                ]);
            anatomy._structures.Add((at, 85));
        }

        if (!isFixed)
        {
            anatomy.AddFields(
                "header", 512, true,
                [
                    ("cookie", 0, 8), ("table offset", 16, 8), ("version", 24, 4), ("entries", 28, 4),
                    ("block size", 32, 4), ("checksum", 36, 4), ("locator", 576, 4), ("locator length", 584, 4),
                    ("locator offset", 592, 8),
                ]);
            anatomy._structures.Add((512, 768));
            anatomy.AddTable(1536, (int)BinaryPrimitives.ReadUInt32BigEndian(image.AsSpan(512 + 28)), true);
        }

        return anatomy;
    }

    /// <summary>Parallels, either version.</summary>
    public static FlatTableAnatomy Parallels(byte[] image)
    {
        var anatomy = new FlatTableAnatomy(image);
        anatomy.AddFields(
            "header", 0, false,
            [
                ("magic", 0, 8), ("magic end", 8, 8), ("version", 16, 4), ("cluster", 28, 4), ("entries", 32, 4),
                ("sectors", 36, 8), ("in use", 44, 4), ("data", 48, 4), ("flags", 52, 4), ("extension", 56, 8),
            ]);
        anatomy._structures.Add((0, 64));
        anatomy.AddTable(64, (int)BitConverter.ToUInt32(image, 32), false);
        long extension = BitConverter.ToInt64(image, 56) * 512;
        if (extension > 0 && extension + 96 <= image.Length)
        {
            anatomy.AddFields(
                "extension", extension, false,
                [
                    ("magic", 0, 8), ("checksum", 8, 8), ("feature", 24, 8), ("feature flags", 32, 8),
                    ("feature size", 40, 4), ("bitmap size", 48, 8), ("granularity", 72, 4), ("table size", 76, 4),
                    ("table entry", 80, 8),
                ]);
            anatomy._structures.Add((extension, 96));
        }

        return anatomy;
    }

    /// <summary>A bundle's descriptor: digits and tags, as two bytes each.</summary>
    public static FlatTableAnatomy ParallelsText(byte[] image)
    {
        var anatomy = new FlatTableAnatomy(image);
        for (int at = 0; at + 2 < image.Length; at++)
        {
            if (image[at] == '>' && image[at + 1] is not ((byte)'\n' or (byte)'<'))
            {
                anatomy.AddFields("text", at, false, [($"at {at}", 1, 1)]);
            }
        }

        anatomy._structures.Add((0, image.Length));
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
