using System.Buffers.Binary;
using System.Text;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>Where a VMDK file has numbers and structures; reads a valid file, by VMware's technote.</summary>
public sealed class VmdkAnatomy
{
    private const int Sector = 512;

    private readonly byte[] _image;
    private readonly List<Field> _fields = [];
    private readonly List<(long Start, long Count)> _structures = [];

    public VmdkAnatomy(byte[] image)
    {
        _image = image;
        if (image.AsSpan().StartsWith("COWD"u8))
        {
            AddCowd();
            return;
        }

        if (U64(0) == 0xcafebabe)
        {
            AddSeSparse();
            return;
        }

        if (!image.AsSpan().StartsWith("KDMV"u8))
        {
            AddText(0, image.Length);
            return;
        }

        AddHeader("header", 0);
        int footer = image.Length - 2 * Sector;
        bool isStream = U64(56) == ulong.MaxValue && footer > 0 && image.AsSpan(footer).StartsWith("KDMV"u8);
        if (isStream)
        {
            AddHeader("footer", footer);
            Add("footer marker", footer - Sector, 8);
            Add("footer marker type", footer - Sector + 12, 4);
        }

        AddText((int)U64(28) * Sector, (int)U64(36) * Sector);
        long directory = (long)U64((isStream ? footer : 0) + 56) * Sector;
        AddDirectory(directory, (isStream ? footer : 0));
        if (!isStream && U64(48) != 0)
        {
            AddDirectory((long)U64(48) * Sector, 0);
        }
    }

    public IReadOnlyList<Field> Fields => _fields;

    public IReadOnlyList<(long Start, long Count)> Structures => _structures;

    public IReadOnlyList<long> Boundaries =>
        [.. _structures.SelectMany(s => new[] { s.Start, s.Start + s.Count }), 79, Sector, _image.Length];

    private void AddCowd()
    {
        string[] names =
            ["magic", "version", "flags", "capacity", "grain size", "directory", "directory entries", "free sector"];
        for (int i = 0; i < names.Length; i++)
        {
            Add("COWD " + names[i], 4 * i, 4);
        }

        Add("COWD parent name", 32, 8);
        Add("COWD unclean", 1648, 4);
        _structures.Add((0, 2048));
        long directory = U32(20) * (long)Sector;
        _structures.Add((directory, U32(24) * 4L));
        for (int i = 0; i < U32(24); i++)
        {
            Add($"directory entry {i}", directory + 4 * i, 4);
            long table = U32((int)directory + 4 * i) * (long)Sector;
            if (table != 0)
            {
                AddTable($"table {i}", table, 4096, 4);
            }
        }
    }

    private void AddSeSparse()
    {
        for (int i = 0; i < 26; i++)
        {
            Add($"SESPARSE word {i}", 8 * i, 8);
        }

        for (int i = 0; i < 4; i++)
        {
            Add($"SESPARSE volatile word {i}", Sector + 8 * i, 8);
        }

        _structures.Add((0, 208));
        _structures.Add((Sector, 32));
        int directory = (int)U64(128) * Sector;
        int tables = (int)U64(144) * Sector;
        _structures.Add((directory, 8));
        Add("directory entry 0", directory, 8);
        AddTable("table", tables, 4096, 8);
        _structures.Add(((long)U64(192) * Sector, Sector));
    }

    private void AddTable(string name, long at, int entries, int width)
    {
        _structures.Add((at, (long)entries * width));
        int taken = 0;
        for (int i = 0; i < entries && taken < 6; i++)
        {
            if (i == 0 || _image.AsSpan((int)at + i * width, width).ContainsAnyExcept((byte)0))
            {
                Add($"{name} entry {i}", at + i * width, width);
                taken++;
            }
        }
    }

    private void AddHeader(string name, int at)
    {
        (string, int, int)[] fields =
        [
            ("magic", 0, 4), ("version", 4, 4), ("flags", 8, 4), ("capacity", 12, 8), ("grain size", 20, 8),
            ("descriptor offset", 28, 8), ("descriptor size", 36, 8), ("table entries", 44, 4), ("redundant directory", 48, 8),
            ("directory", 56, 8), ("overhead", 64, 8), ("unclean", 72, 1), ("line ends", 73, 4), ("compression", 77, 2),
        ];
        foreach ((string field, int offset, int width) in fields)
        {
            Add($"{name} {field}", at + offset, width);
        }

        _structures.Add((at, 80));
    }

    private void AddDirectory(long directory, int header)
    {
        uint perTable = U32(header + 44);
        ulong tables = (U64(12) / U64(20) + perTable - 1) / perTable;
        _structures.Add((directory, (long)tables * 4));
        for (int i = 0; i < (int)Math.Min(tables, 2); i++)
        {
            Add($"directory entry {i}", directory + i * 4, 4);
            long table = U32((int)directory + i * 4) * (long)Sector;
            if (table == 0 || table + perTable * 4 > _image.Length)
            {
                continue;
            }

            _structures.Add((table, perTable * 4));
            int taken = 0;
            for (int k = 0; k < perTable && taken < 4; k++)
            {
                uint grain = U32((int)table + k * 4);
                if (k == 0 || grain != 0)
                {
                    Add($"table {i} entry {k}", table + k * 4, 4);
                    taken++;
                    if (grain > 1)
                    {
                        Add($"grain of entry {k}", grain * (long)Sector, 8);
                        Add($"grain size of entry {k}", grain * (long)Sector + 8, 4);
                    }
                }
            }
        }
    }

    /// <summary>Digits of the descriptor, three at a time: as numbers they become other characters, which is the point.</summary>
    private void AddText(int start, int size)
    {
        _structures.Add((start, Math.Min(size, _image.Length - start)));
        string text = Encoding.Latin1.GetString(_image, start, Math.Min(size, _image.Length - start));
        foreach (string key in (string[])["RW ", "CID=", "createType=\"", "version=", "SPARSE \"", "FLAT \"", "parentCID=", "# Disk"])
        {
            int at = text.IndexOf(key, StringComparison.Ordinal);
            if (at >= 0)
            {
                Add($"text after {key}", start + at + key.Length, 2);
                Add($"key {key}", start + at, 1);
            }
        }
    }

    private void Add(string name, long offset, int width)
    {
        if (offset >= 0 && offset + width <= _image.Length)
        {
            _fields.Add(new Field(name, offset, width, false));
        }
    }

    private uint U32(int at) => BinaryPrimitives.ReadUInt32LittleEndian(_image.AsSpan(at));

    private ulong U64(int at) => BinaryPrimitives.ReadUInt64LittleEndian(_image.AsSpan(at));
}
