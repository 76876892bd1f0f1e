using System.Buffers.Binary;
using System.Text;

namespace ImageMount.TestSupport.Images;

/// <summary>How <see cref="DmgWriter"/> stores a run.</summary>
public enum DmgUnit : uint
{
    /// <summary>Zeroes that count in checksums.</summary>
    Zero = 0,

    /// <summary>As it is.</summary>
    Raw = 1,

    /// <summary>Zeroes that do not.</summary>
    Ignore = 2,

    /// <summary>ADC.</summary>
    Adc = 0x80000004,

    /// <summary>zlib.</summary>
    Zlib = 0x80000005,

    /// <summary>bzip2.</summary>
    Bzip2 = 0x80000006,

    /// <summary>LZFSE, each kind of block in turn.</summary>
    Lzfse = 0x80000007,

    /// <summary>LZMA in xz.</summary>
    Lzma = 0x80000008,
}

/// <summary>
/// Makes UDIF images from the description of the format, and makes them hostile: several partitions, units of odd sizes
/// in disorder, every kind beside every other, remarks between runs, junk before the data fork.
/// </summary>
public sealed class DmgWriter
{
    /// <summary>Bytes of a sector.</summary>
    public const int Sector = 512;

    private readonly List<(long Start, byte[] Bytes)> _pieces = [];

    /// <summary>Every kind of stored unit.</summary>
    public static IReadOnlyList<DmgUnit> AllUnits { get; } =
        [DmgUnit.Raw, DmgUnit.Zlib, DmgUnit.Adc, DmgUnit.Bzip2, DmgUnit.Lzfse, DmgUnit.Lzma];

    /// <summary>What qemu-img reads without modules of its own.</summary>
    public static IReadOnlyList<DmgUnit> PlainUnits { get; } = [DmgUnit.Raw, DmgUnit.Zlib];

    /// <summary>Seed of everything random.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>How units are stored, in turn; units of zeroes are zero or ignored runs.</summary>
    public IReadOnlyList<DmgUnit> Units { get; init; } = AllUnits;

    /// <summary>Sizes of units in sectors, in turn.</summary>
    public IReadOnlyList<int> UnitSectors { get; init; } = [16, 1, 64, 7, 128];

    /// <summary>Partitions; each has a table.</summary>
    public int Partitions { get; init; } = 3;

    /// <summary>A binary resource fork in place of the property list.</summary>
    public bool HasResourceFork { get; init; }

    /// <summary>Files that the data fork is cut into, anywhere.</summary>
    public int Segments { get; init; } = 1;

    /// <summary>Bytes before the data fork.</summary>
    public int Junk { get; init; } = 77;

    /// <summary>What tables add to offsets.</summary>
    public long TableOffset { get; init; } = 13;

    /// <summary>Sectors (first, count) that no table covers.</summary>
    public (int First, int Count) Gap { get; init; }

    /// <summary>Changes a table before it is stored.</summary>
    public Action<byte[]>? Edit { get; init; }

    /// <summary>The image in one file.</summary>
    public byte[] Build(byte[] content)
    {
        Assert.Equal(1, Segments);
        return BuildSegments(content)[0];
    }

    /// <summary>The image's files.</summary>
    public List<byte[]> BuildSegments(byte[] content)
    {
        Assert.Equal(0, content.Length % Sector);
        _pieces.Clear();
        List<(string Name, byte[] Table)> tables = MakeTables(content);
        byte[] fork = new byte[_pieces.Count == 0 ? 0 : _pieces.Max(piece => piece.Start + piece.Bytes.Length)];
        foreach ((long start, byte[] bytes) in _pieces)
        {
            bytes.CopyTo(fork, start);
        }

        uint master = Crc(tables.SelectMany(table => table.Table[72..76]).ToArray());
        var files = new List<byte[]>();
        for (int i = 0; i < Segments; i++)
        {
            int from = fork.Length * i / Segments;
            int to = fork.Length * (i + 1) / Segments;
            files.Add(MakeFile(fork[from..to], from, i, content.Length / Sector, tables, master));
        }

        return files;
    }

    private static uint Crc(ReadOnlySpan<byte> bytes)
    {
        uint crc = uint.MaxValue;
        foreach (byte b in bytes)
        {
            crc ^= b;
            for (int bit = 0; bit < 8; bit++)
            {
                crc = (crc & 1) != 0 ? crc >> 1 ^ 0xEDB88320 : crc >> 1;
            }
        }

        return ~crc;
    }

    private static void Put32(byte[] bytes, int at, uint value) =>
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(at), value);

    private static void Put64(byte[] bytes, int at, long value) =>
        BinaryPrimitives.WriteInt64BigEndian(bytes.AsSpan(at), value);

    private static byte[] Encode(DmgUnit kind, byte[] plain, int number) => kind switch
    {
        DmgUnit.Raw => plain,
        DmgUnit.Adc => AdcEncoder.Encode(plain),
        DmgUnit.Zlib => UnitEncoders.Zlib(plain),
        DmgUnit.Bzip2 => UnitEncoders.Bzip2(plain),
        DmgUnit.Lzfse => LzfseEncoder.Encode(plain, "2n1-"[number % 4]),
        DmgUnit.Lzma => UnitEncoders.Xz(plain),
        _ => [],
    };

    private List<(string Name, byte[] Table)> MakeTables(byte[] content)
    {
        var random = new Random(Seed);
        int sectors = content.Length / Sector;
        var runs = new List<(int Table, DmgUnit Kind, int First, int Count, byte[] Stored)>();
        var starts = new List<int>();
        int number = 0;
        for (int table = 0; table < Partitions; table++)
        {
            int end = (int)((long)sectors * (table + 1) / Partitions);
            int at = (int)((long)sectors * table / Partitions);
            starts.Add(at);
            while (at < end)
            {
                int count = Math.Min(UnitSectors[number % UnitSectors.Count], end - at);
                if (Gap.Count > 0 && at < Gap.First + Gap.Count && at + count > Gap.First)
                {
                    count = Math.Max(1, at < Gap.First ? Gap.First - at : Math.Min(end, Gap.First + Gap.Count) - at);
                    if (at >= Gap.First)
                    {
                        at += count;
                        continue;
                    }
                }

                byte[] plain = content[(at * Sector)..((at + count) * Sector)];
                bool isZero = !plain.AsSpan().ContainsAnyExcept((byte)0);
                DmgUnit kind = isZero ? (random.Next(2) == 0 ? DmgUnit.Zero : DmgUnit.Ignore)
                    : Units[number % Units.Count];
                runs.Add((table, kind, at, count, Encode(kind, plain, number / Units.Count)));
                number++;
                at += count;
            }
        }

        long[] places = Place([.. runs.Select(run => run.Stored)], random);
        return [.. Enumerable.Range(0, Partitions).Select(table =>
        {
            int end = table + 1 < Partitions ? starts[table + 1] : sectors;
            List<int> mine = [.. Enumerable.Range(0, runs.Count).Where(i => runs[i].Table == table)];
            byte[] stored = MakeTable(
                starts[table], end - starts[table],
                [.. mine.Select(i => (runs[i].Kind, runs[i].First, runs[i].Count, places[i], (long)runs[i].Stored.Length))]);
            Put32(stored, 72, Crc([.. mine.Where(i => runs[i].Kind != DmgUnit.Ignore).SelectMany(i =>
                content.AsSpan(runs[i].First * Sector, runs[i].Count * Sector).ToArray())]));
            Edit?.Invoke(stored);
            return ($"disk image (Apple_HFS : {table})", stored);
        })];
    }

    /// <summary>Places in disorder, with gaps of odd sizes.</summary>
    private long[] Place(byte[][] stored, Random random)
    {
        var places = new long[stored.Length];
        int[] order = [.. Enumerable.Range(0, stored.Length)];
        random.Shuffle(order);
        long at = TableOffset + 3;
        foreach (int i in order)
        {
            places[i] = at;
            _pieces.Add((at, stored[i]));
            at += stored[i].Length + random.Next(3);
        }

        _pieces.Add((at, [1, 2, 3, 4, 5, 6, 7]));
        return places;
    }

    private byte[] MakeTable(
        int first, int sectors, (DmgUnit Kind, int First, int Count, long Offset, long Length)[] runs)
    {
        // A remark after every third run, and the end mark.
        int count = runs.Length + runs.Length / 3 + 1;
        byte[] table = new byte[204 + 40 * count];
        Encoding.ASCII.GetBytes("mish", table);
        Put32(table, 4, 1);
        Put64(table, 8, first);
        Put64(table, 16, sectors);
        Put64(table, 24, TableOffset);
        Put32(table, 64, 2);
        Put32(table, 68, 32);
        Put32(table, 200, (uint)count);
        int at = 204;
        for (int i = 0; i < runs.Length; i++)
        {
            bool isStored = runs[i].Kind is not (DmgUnit.Zero or DmgUnit.Ignore);
            PutRun(table, ref at, (uint)runs[i].Kind, runs[i].First - first, runs[i].Count,
                isStored ? runs[i].Offset - TableOffset : 0, isStored ? runs[i].Length : 0);
            if (i % 3 == 2)
            {
                PutRun(table, ref at, 0x7ffffffe, runs[i].First - first + runs[i].Count, 0, 0, 0);
            }
        }

        PutRun(table, ref at, 0xffffffff, sectors, 0, 0, 0);
        return table;
    }

    private static void PutRun(byte[] table, ref int at, uint kind, long first, long count, long offset, long length)
    {
        Put32(table, at, kind);
        Put32(table, at + 4, kind == 0x7ffffffe ? 0x2b626567u : 0);
        Put64(table, at + 8, first);
        Put64(table, at + 16, count);
        Put64(table, at + 24, offset);
        Put64(table, at + 32, length);
        at += 40;
    }

    private byte[] MakeFile(
        byte[] fork, long running, int segment, int sectors, List<(string Name, byte[] Table)> tables, uint master)
    {
        byte[] list = segment > 0 ? [] : HasResourceFork ? MakeResourceFork(tables) : MakePropertyList(tables);
        byte[] trailer = new byte[512];
        Encoding.ASCII.GetBytes("koly", trailer);
        Put32(trailer, 4, 4);
        Put32(trailer, 8, 512);
        Put32(trailer, 12, 1);
        Put64(trailer, 16, running);
        Put64(trailer, 24, Junk);
        Put64(trailer, 32, fork.Length);
        int listFields = HasResourceFork ? 40 : 216;
        Put64(trailer, listFields, Junk + fork.Length);
        Put64(trailer, listFields + 8, list.Length);
        Put32(trailer, 56, (uint)(Segments > 1 ? segment + 1 : 0));
        Put32(trailer, 60, (uint)(Segments > 1 ? Segments : 0));
        Put64(trailer, 64, 0x0123456789abcdef);
        Put64(trailer, 72, Seed);
        Put32(trailer, 80, 2);
        Put32(trailer, 84, 32);
        Put32(trailer, 88, Crc(fork));
        Put32(trailer, 352, 2);
        Put32(trailer, 356, 32);
        Put32(trailer, 360, master);
        Put32(trailer, 488, 1);
        Put64(trailer, 492, sectors);
        return [.. TestPattern.Make(Junk, 0, Seed), .. fork, .. list, .. trailer];
    }

    private static byte[] MakePropertyList(List<(string Name, byte[] Table)> tables)
    {
        var xml = new StringBuilder(
            """
            <?xml version="1.0" encoding="UTF-8"?>
            <!DOCTYPE plist PUBLIC "-//Apple Computer//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
            <plist version="1.0">
            <dict>
            	<key>cSum</key><array><dict><key>Data</key><data>AAAA</data></dict></array>
            	<key>resource-fork</key>
            	<dict>
            		<key>plst</key>
            		<array><dict><key>ID</key><string>0</string><key>Data</key><data></data></dict></array>
            		<key>blkx</key>
            		<array>

            """);
        for (int i = 0; i < tables.Count; i++)
        {
            string data = Convert.ToBase64String(tables[i].Table, Base64FormattingOptions.InsertLineBreaks)
                .Replace("\r\n", "\n\t\t\t\t", StringComparison.Ordinal);
            xml.Append(
                $"""
                			<dict>
                				<key>Attributes</key>
                				<string>0x0050</string>
                				<key>CFName</key>
                				<string>{tables[i].Name}</string>
                				<key>Data</key>
                				<data>
                				{data}
                				</data>
                				<key>ID</key>
                				<string>{i - 1}</string>
                				<key>Name</key>
                				<string></string>
                			</dict>

                """);
        }

        xml.Append("\t\t</array>\n\t</dict>\n</dict>\n</plist>\n");
        return Encoding.UTF8.GetBytes(xml.ToString());
    }

    private static byte[] MakeResourceFork(List<(string Name, byte[] Table)> tables)
    {
        var data = new MemoryStream();
        var list = new MemoryStream();
        var names = new MemoryStream();
        var number = new byte[4];
        data.Write([0, 0, 0, 3, 9, 9, 9]); // Somebody else's resource.
        for (int i = 0; i < tables.Count; i++)
        {
            byte[] entry = new byte[12];
            BinaryPrimitives.WriteInt16BigEndian(entry, (short)(i - 1));
            BinaryPrimitives.WriteUInt16BigEndian(entry.AsSpan(2), (ushort)names.Length);
            Put32(entry, 4, 0x50000000 | (uint)data.Length);
            list.Write(entry);
            names.WriteByte((byte)tables[i].Name.Length);
            names.Write(Encoding.ASCII.GetBytes(tables[i].Name));
            Put32(number, 0, (uint)tables[i].Table.Length);
            data.Write(number);
            data.Write(tables[i].Table);
        }

        // The map: 24 bytes, offsets of types and names, number of types less one, two types, their lists, the names.
        byte[] map = new byte[28 + 2 + 16 + 12 + list.Length + names.Length];
        BinaryPrimitives.WriteUInt16BigEndian(map.AsSpan(24), 28);
        BinaryPrimitives.WriteUInt16BigEndian(map.AsSpan(26), (ushort)(map.Length - names.Length));
        BinaryPrimitives.WriteUInt16BigEndian(map.AsSpan(28), 1);
        Encoding.ASCII.GetBytes("plst", map.AsSpan(30));
        BinaryPrimitives.WriteUInt16BigEndian(map.AsSpan(36), 18);
        Encoding.ASCII.GetBytes("blkx", map.AsSpan(38));
        BinaryPrimitives.WriteUInt16BigEndian(map.AsSpan(42), (ushort)(tables.Count - 1));
        BinaryPrimitives.WriteUInt16BigEndian(map.AsSpan(44), 30);
        BinaryPrimitives.WriteUInt16BigEndian(map.AsSpan(48), ushort.MaxValue);
        list.ToArray().CopyTo(map, 58);
        names.ToArray().CopyTo(map, 58 + list.Length);
        byte[] fork = new byte[256 + data.Length + map.Length];
        Put32(fork, 0, 256);
        Put32(fork, 4, (uint)(256 + data.Length));
        Put32(fork, 8, (uint)data.Length);
        Put32(fork, 12, (uint)map.Length);
        data.ToArray().CopyTo(fork, 256);
        map.CopyTo(fork, 256 + data.Length);
        return fork;
    }
}
