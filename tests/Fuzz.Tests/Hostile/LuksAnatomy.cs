using System.Buffers.Binary;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>Where a LUKS header has numbers and structures; reads a valid one, by the specifications.</summary>
public sealed class LuksAnatomy
{
    private const int Binary = 4096;

    private readonly byte[] _image;
    private readonly List<Field> _fields = [];
    private readonly List<(long Start, long Count)> _structures = [];

    public LuksAnatomy(byte[] image)
    {
        _image = image;
        Add("magic", 0, 4);
        Add("version", 6, 2);
        if (image[7] == 1)
        {
            AddVersion1();
        }
        else
        {
            int size = (int)BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan(8));
            AddCopy("first", 0, size);
            AddCopy("second", size, size);
        }
    }

    public IReadOnlyList<Field> Fields => _fields;

    public IReadOnlyList<(long Start, long Count)> Structures => _structures;

    public IReadOnlyList<long> Boundaries =>
        [.. _structures.SelectMany(s => new[] { s.Start, s.Start + s.Count }), 6, 8, 208, _image.Length];

    private void AddVersion1()
    {
        _structures.Add((0, 592));
        foreach ((string name, int at) in ((string, int)[])
            [("cipher", 8), ("mode", 40), ("hash", 72), ("payload", 104), ("key bytes", 108), ("digest", 112),
             ("digest salt", 132), ("digest iterations", 164)])
        {
            Add(name, at, 4);
        }

        for (int slot = 0; slot < 3; slot++)
        {
            int at = 208 + (slot * 48);
            foreach ((string name, int field) in ((string, int)[])
                [("active", 0), ("iterations", 4), ("salt", 8), ("material", 40), ("stripes", 44)])
            {
                Add($"slot {slot} {name}", at + field, 4);
            }
        }

        _structures.Add((BinaryPrimitives.ReadInt32BigEndian(_image.AsSpan(208 + 40)) * 512L, 4096));
    }

    private void AddCopy(string name, int start, int size)
    {
        foreach ((string field, int at, int width) in ((string, int, int)[])
            [("magic", 0, 4), ("version", 6, 2), ("size", 8, 8), ("sequence", 16, 8), ("algorithm", 72, 4),
             ("offset", 256, 8), ("checksum", 448, 8)])
        {
            Add($"{name} copy's {field}", start + at, width);
        }

        _structures.Add((start, 512));
        int length = _image.AsSpan(start + Binary, size - Binary).IndexOf((byte)0);
        _structures.Add((start + Binary, length));

        // Digits, one at a time: as numbers they become other characters, which is the point.
        for (int i = 0; i < length && start == 0; i++)
        {
            if (char.IsAsciiDigit((char)_image[start + Binary + i]) && i % 5 == 0)
            {
                Add($"{name} copy's text at {i}", start + Binary + i, 1);
            }
        }
    }

    private void Add(string name, long offset, int width)
    {
        if (offset >= 0 && offset + width <= _image.Length)
        {
            _fields.Add(new Field(name, offset, width, true));
        }
    }
}
