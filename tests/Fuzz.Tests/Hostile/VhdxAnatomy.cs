using System.Buffers.Binary;

namespace ImageMount.Fuzz.Tests.Hostile;

/// <summary>
/// Where a VHDX file has numbers and structures; reads a valid file, by [MS-VHDX]. These files are large, so each seed
/// has the fields of what it is there for: the log, the parent, or everything else.
/// </summary>
public sealed class VhdxAnatomy
{
    private const int Header1 = 64 << 10;
    private const int Header2 = 128 << 10;
    private const int Regions = 192 << 10;
    private const int Entries = 4096 / 8;

    private readonly byte[] _image;
    private readonly List<Field> _fields = [];
    private readonly List<(long Start, long Count)> _structures = [];

    public VhdxAnatomy(byte[] image)
    {
        _image = image;
        long log = (long)U64(Header1 + 72);
        bool hasLog = image.AsSpan((int)log).StartsWith("loge"u8);
        bool hasParent = image.AsSpan().IndexOf("p\0a\0r\0e\0n\0t\0_\0l\0i\0n\0k\0"u8) >= 0;
        Add("signature", 0, 8);
        _structures.Add((0, 8));
        AddHeader("header 1", Header1);
        AddHeader("header 2", Header2);
        AddRegions("regions 1", Regions);
        AddRegions("regions 2", Regions + (64 << 10));
        for (int i = 0; i < 2; i++)
        {
            int entry = Regions + 16 + (i * 32);
            long offset = (long)U64(entry + 16);
            if (U64(entry) == 0x4200_F623_2DC2_7766)
            {
                AddBat(offset);
            }
            else
            {
                AddMetadata(offset);
            }
        }

        AddLog(log);
        string[] mine = hasLog ? ["log", "header"] : hasParent ? ["locator", "bitmap", "BAT"] : [];
        _fields.RemoveAll(field => mine.Length > 0
            ? !mine.Any(name => field.Name.StartsWith(name, StringComparison.Ordinal))
            : field.Name.StartsWith("header 2", StringComparison.Ordinal)
                || field.Name.StartsWith("regions 2", StringComparison.Ordinal));
    }

    public IReadOnlyList<Field> Fields => _fields;

    public IReadOnlyList<(long Start, long Count)> Structures => _structures;

    public IReadOnlyList<long> Boundaries =>
        [.. _structures.SelectMany(s => new[] { s.Start, s.Start + s.Count }), 1 << 20, _image.Length];

    /// <summary>
    /// Makes the checksums right again after damage, so that what lies behind them is reached too.
    /// </summary>
    public static void Seal(byte[] image)
    {
        foreach ((int at, int size) in ((int, int)[])
            [(Header1, 4096), (Header2, 4096), (Regions, 65536), (Regions + 65536, 65536)])
        {
            Seal(image, at, size);
        }

        long log = BinaryPrimitives.ReadInt64LittleEndian(image.AsSpan(Header1 + 72));
        if (log > 0 && log < image.Length - 4096 && image.AsSpan((int)log).StartsWith("loge"u8))
        {
            Seal(image, (int)log, (int)BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan((int)log + 8)));
        }
    }

    private static void Seal(byte[] image, int at, int size)
    {
        if (size < 64 || size > image.Length - at)
        {
            return;
        }

        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(at + 4), 0);
        uint crc = uint.MaxValue;
        foreach (byte b in image.AsSpan(at, size))
        {
            crc = System.Numerics.BitOperations.Crc32C(crc, b);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(at + 4), ~crc);
    }

    private void AddHeader(string name, int at)
    {
        (string, int, int)[] fields =
        [
            ("signature", 0, 4), ("sequence", 8, 8), ("log guid", 48, 8), ("log version", 64, 2), ("version", 66, 2),
            ("log length", 68, 4), ("log offset", 72, 8),
        ];
        foreach ((string field, int offset, int width) in fields)
        {
            Add($"{name} {field}", at + offset, width);
        }

        _structures.Add((at, 80));
    }

    private void AddRegions(string name, int at)
    {
        Add($"{name} signature", at, 4);
        Add($"{name} count", at + 8, 4);
        for (int i = 0; i < 2; i++)
        {
            int entry = at + 16 + (i * 32);
            Add($"{name} {i} id", entry, 8);
            Add($"{name} {i} offset", entry + 16, 8);
            Add($"{name} {i} length", entry + 24, 4);
            Add($"{name} {i} required", entry + 28, 4);
        }

        _structures.Add((at, 80));
    }

    private void AddMetadata(long at)
    {
        Add("metadata signature", at, 8);
        Add("metadata count", at + 10, 2);
        int count = BinaryPrimitives.ReadUInt16LittleEndian(_image.AsSpan((int)at + 10));
        _structures.Add((at, 32 + (count * 32)));
        for (int i = 0; i < count; i++)
        {
            int entry = (int)at + 32 + (i * 32);
            Add($"item {i} id", entry, 8);
            Add($"item {i} offset", entry + 16, 4);
            Add($"item {i} length", entry + 20, 4);
            Add($"item {i} flags", entry + 24, 4);
            long item = at + BinaryPrimitives.ReadUInt32LittleEndian(_image.AsSpan(entry + 16));
            int length = (int)BinaryPrimitives.ReadUInt32LittleEndian(_image.AsSpan(entry + 20));
            _structures.Add((item, length));
            Add($"item {i}", item, length is 8 ? 8 : 4);
            Add($"item {i} second", item + 4, 4);
            if (length > 40)
            {
                Add("locator count", item + 18, 2);
                Add("locator key", item + 20, 4);
                Add("locator value", item + 24, 4);
                Add("locator key length", item + 28, 2);
                Add("locator value length", item + 30, 2);
                Add("locator text", item + 50, 4);
            }
        }
    }

    private void AddBat(long at)
    {
        _structures.Add((at, Entries * 8));
        foreach (int entry in (int[])[0, 1, 2, 5])
        {
            Add($"BAT entry {entry}", at + (entry * 8), 8);
            Add($"BAT state {entry}", at + (entry * 8), 1);
        }

        // The bitmap of the first chunk, where blocks have 1 MiB and sectors 512 bytes.
        Add("bitmap entry", at + (4096 * 8), 8);
        ulong bitmap = U64((int)at + (4096 * 8));
        if ((bitmap & 7) == 6)
        {
            _structures.Add(((long)(bitmap >> 20 << 20), 4096));
            Add("bitmap", (long)(bitmap >> 20 << 20), 8);
        }
    }

    private void AddLog(long at)
    {
        if (!_image.AsSpan((int)at).StartsWith("loge"u8))
        {
            return;
        }

        _structures.Add((at, 64));
        (string, int, int)[] fields =
        [
            ("length", 8, 4), ("tail", 12, 4), ("sequence", 16, 8), ("descriptors", 24, 4), ("guid", 32, 8),
            ("flushed", 48, 8), ("last", 56, 8), ("descriptor", 64, 4), ("descriptor offset", 80, 8),
            ("descriptor length", 72, 8), ("descriptor sequence", 88, 8), ("data", 4096, 4), ("data sequence", 8188, 4),
        ];
        foreach ((string field, int offset, int width) in fields)
        {
            Add($"log {field}", at + offset, width);
        }
    }

    private void Add(string name, long offset, int width)
    {
        if (offset >= 0 && offset + width <= _image.Length)
        {
            _fields.Add(new Field(name, offset, width, false));
        }
    }

    private ulong U64(int at) => BinaryPrimitives.ReadUInt64LittleEndian(_image.AsSpan(at));
}
