using System.Buffers.Binary;
using System.Text;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>
/// Where a UDIF image has numbers and structures. Tables are inside base64, so for images with a property list the
/// fields are characters; images with a resource fork have the numbers as they are.
/// </summary>
public sealed class DmgAnatomy
{
    private readonly byte[] _image;
    private readonly List<Field> _fields = [];
    private readonly List<(long Start, long Count)> _structures = [];

    public DmgAnatomy(byte[] image)
    {
        _image = image;
        int trailer = image.Length - 512;
        AddTrailer(trailer);
        long list = (long)U64(trailer + 216);
        long listLength = (long)U64(trailer + 224);
        if (listLength > 0)
        {
            _structures.Add((list, listLength));
            AddText((int)list, (int)listLength);
        }
        else
        {
            AddFork((int)U64(trailer + 40), (int)U64(trailer + 48));
        }

        AddUnits((int)U64(trailer + 24), (int)U64(trailer + 32));
    }

    public IReadOnlyList<Field> Fields => _fields;

    public IReadOnlyList<(long Start, long Count)> Structures => _structures;

    public IReadOnlyList<long> Boundaries =>
        [.. _structures.SelectMany(s => new[] { s.Start, s.Start + s.Count }), _image.Length];

    private void AddTrailer(int at)
    {
        (string, int, int)[] fields =
        [
            ("magic", 0, 4), ("version", 4, 4), ("header size", 8, 4), ("running offset", 16, 8), ("data offset", 24, 8),
            ("data length", 32, 8), ("fork offset", 40, 8), ("fork length", 48, 8), ("segment", 56, 4), ("segments", 60, 4),
            ("checksum type", 80, 4), ("list offset", 216, 8), ("list length", 224, 8), ("master type", 352, 4),
            ("sectors", 492, 8),
        ];
        foreach ((string name, int offset, int width) in fields)
        {
            Add($"trailer's {name}", at + offset, width);
        }

        _structures.Add((at, 512));
    }

    private void AddText(int start, int length)
    {
        string text = Encoding.Latin1.GetString(_image, start, length);
        foreach (string key in (string[])["<?xml", "encoding=\"", "<!DOCTYPE", "<plist", "<dict>", "blkx</key>", "<array>", "<data>", "</data>", "Name</key>"])
        {
            int at = text.LastIndexOf(key, StringComparison.Ordinal);
            if (at >= 0)
            {
                Add($"text {key}", start + at, 1);
                Add($"text after {key}", start + at + key.Length, 2);
            }
        }
    }

    private void AddFork(int at, int length)
    {
        foreach (int i in (int[])[0, 4, 8, 12])
        {
            Add($"fork header {i}", at + i, 4);
        }

        int map = at + (int)U32(at + 4);
        _structures.Add((at, 16));
        _structures.Add((map, at + length - map));
        foreach (int i in (int[])[24, 26, 28, 34, 36, 42, 44, 46, 48, 58, 60])
        {
            Add($"map {i}", map + i, 2);
        }

        int data = at + (int)U32(at);
        Add("resource offset", map + 62, 4);
        int table = data + (int)(U32(map + 62) & 0xffffff);
        Add("resource length", table, 4);
        AddTable(table + 4);
    }

    private void AddTable(int at)
    {
        (string, int, int)[] fields =
        [
            ("magic", 0, 4), ("version", 4, 4), ("first sector", 8, 8), ("sectors", 16, 8), ("data offset", 24, 8),
            ("checksum type", 64, 4), ("checksum", 72, 4), ("runs", 200, 4),
        ];
        foreach ((string name, int offset, int width) in fields)
        {
            Add($"table's {name}", at + offset, width);
        }

        int runs = (int)U32(at + 200);
        _structures.Add((at, 204 + 40 * runs));
        foreach (int run in (int[])[0, 1, runs - 1])
        {
            int start = at + 204 + 40 * run;
            Add($"table run {run} type", start, 4);
            foreach (int offset in (int[])[8, 16, 24, 32])
            {
                Add($"table run {run} at {offset}", start + offset, 8);
            }
        }
    }

    /// <summary>Heads of compressed units.</summary>
    private void AddUnits(int fork, int length)
    {
        foreach (byte[] magic in (byte[][])[[0x78, 0xda], [.. "BZh"u8], [.. "bvx"u8], [0xfd, .. "7zXZ"u8]])
        {
            int at = _image.AsSpan(fork, length).IndexOf(magic);
            if (at >= 0)
            {
                _structures.Add((fork + at, Math.Min(64, length - at)));
                Add($"unit {magic[0]:x2} at 4", fork + at + 4, 4);
                Add($"unit {magic[0]:x2} at 8", fork + at + 8, 4);
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

    private uint U32(int at) => BinaryPrimitives.ReadUInt32BigEndian(_image.AsSpan(at));

    private ulong U64(int at) => BinaryPrimitives.ReadUInt64BigEndian(_image.AsSpan(at));
}
