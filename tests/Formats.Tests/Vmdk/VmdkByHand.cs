using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;

namespace ImageMount.Formats.Tests.Vmdk;

/// <summary>
/// Puts sparse extents together byte by byte from VMware's technote, so that tests have layouts that qemu-img never
/// makes: other geometries, missing tables, streams with a footer and markers.
/// </summary>
internal sealed class VmdkByHand
{
    private const int Sector = 512;

    public int Capacity { get; init; } = 1 << 20;

    public int GrainSize { get; init; } = 64 << 10;

    public int EntriesPerTable { get; init; } = 512;

    public uint Version { get; init; } = 1;

    public bool Redundant { get; init; } = true;

    public bool TablesMissing { get; init; }

    /// <summary>Guest bytes; grains of zeroes are left out.</summary>
    public byte[]? Content { get; init; }

    /// <summary>Text of the embedded descriptor; null for the usual one, empty for none.</summary>
    public string? Descriptor { get; init; }

    /// <summary>Where Build put things, bytes.</summary>
    public int DirectoryOffset { get; private set; }

    public int RedundantOffset { get; private set; }

    public int TableOffset { get; private set; }

    public int Tables => (int)((Capacity + ((long)GrainSize * EntriesPerTable) - 1) / ((long)GrainSize * EntriesPerTable));

    private int TableSize => Round(EntriesPerTable * 4, Sector);

    public static string MakeDescriptor(string createType, params string[] extents) =>
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
        + $"createType=\"{createType}\"\n\n# Extent description\n{string.Join('\n', extents)}\n\n"
        + "# The Disk Data Base\n#DDB\nddb.adapterType = \"ide\"\n";

    /// <summary>A monolithicSparse extent.</summary>
    public byte[] Build()
    {
        int directorySize = Round(Tables * 4, Sector);
        int at = 21 * Sector;
        int copies = Redundant ? 2 : 1;
        RedundantOffset = Redundant ? at : 0;
        int redundantTables = at + directorySize;
        at += Redundant ? directorySize + (TablesMissing ? 0 : Tables * TableSize) : 0;
        DirectoryOffset = at;
        TableOffset = at + directorySize;
        at += directorySize + (TablesMissing ? 0 : Tables * TableSize);
        int overhead = Round(at, GrainSize);
        var file = new MemoryStream();
        file.SetLength(overhead);
        byte[] bytes = new byte[overhead + Capacity + GrainSize];
        WriteHeader(bytes, DirectoryOffset / Sector, RedundantOffset / Sector, overhead / Sector, compressed: false);
        WriteDescriptor(bytes, "monolithicSparse");
        for (int copy = 0; copy < copies && !TablesMissing; copy++)
        {
            int directory = copy == 0 ? DirectoryOffset : RedundantOffset;
            int tables = copy == 0 ? TableOffset : redundantTables;
            for (int i = 0; i < Tables; i++)
            {
                Put32(bytes, directory + (4 * i), (uint)((tables + (i * TableSize)) / Sector));
            }
        }

        int end = overhead;
        foreach (int grain in Grains(shuffle: true))
        {
            Content.AsSpan(grain * GrainSize, Math.Min(GrainSize, Capacity - (grain * GrainSize)))
                .CopyTo(bytes.AsSpan(end));
            int entry = grain / EntriesPerTable * TableSize + (grain % EntriesPerTable * 4);
            Put32(bytes, TableOffset + entry, (uint)(end / Sector));
            if (Redundant)
            {
                Put32(bytes, redundantTables + entry, (uint)(end / Sector));
            }

            end += GrainSize;
        }

        return bytes[..end];
    }

    /// <summary>A streamOptimized extent as a program writes it that cannot seek: tables behind, footer last.</summary>
    public byte[] BuildStream()
    {
        using var file = new MemoryStream();
        byte[] head = new byte[Math.Max(128 * Sector, Round(21 * Sector, Sector))];
        WriteHeader(head, -1, 0, head.Length / Sector, compressed: true);
        WriteDescriptor(head, "streamOptimized");
        file.Write(head);
        var directory = new uint[Tables];
        for (int table = 0; table < Tables; table++)
        {
            var entries = new byte[TableSize];
            bool any = false;
            foreach (int grain in Grains(shuffle: false).Where(grain => grain / EntriesPerTable == table))
            {
                Put32(entries, grain % EntriesPerTable * 4, (uint)(file.Position / Sector));
                WriteGrain(file, grain);
                any = true;
            }

            if (any)
            {
                WriteMarker(file, (uint)(TableSize / Sector), 1);
                directory[table] = (uint)(file.Position / Sector);
                file.Write(entries);
            }
        }

        byte[] stored = new byte[Round(Tables * 4, Sector)];
        for (int i = 0; i < directory.Length; i++)
        {
            Put32(stored, 4 * i, directory[i]);
        }

        WriteMarker(file, (uint)(stored.Length / Sector), 2);
        DirectoryOffset = (int)file.Position;
        file.Write(stored);
        WriteMarker(file, 1, 3);
        byte[] footer = new byte[Sector];
        WriteHeader(footer, DirectoryOffset / Sector, 0, head.Length / Sector, compressed: true);
        file.Write(footer);
        WriteMarker(file, 0, 0);
        return file.ToArray();
    }

    public static void Put32(Span<byte> bytes, int at, uint value) =>
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[at..], value);

    public static void Put64(Span<byte> bytes, int at, ulong value) =>
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[at..], value);

    private static int Round(int value, int unit) => (value + unit - 1) / unit * unit;

    private static void WriteMarker(MemoryStream file, uint sectors, uint type)
    {
        byte[] marker = new byte[Sector];
        Put64(marker, 0, sectors);
        Put32(marker, 12, type);
        file.Write(marker);
    }

    private IEnumerable<int> Grains(bool shuffle)
    {
        if (Content is null)
        {
            return [];
        }

        int[] grains = [.. Enumerable.Range(0, (Capacity + GrainSize - 1) / GrainSize).Where(grain => Content
            .AsSpan(grain * GrainSize, Math.Min(GrainSize, Capacity - (grain * GrainSize)))
            .ContainsAnyExcept((byte)0))];
        if (shuffle)
        {
            new Random(7).Shuffle(grains);
        }

        return grains;
    }

    private void WriteGrain(MemoryStream file, int grain)
    {
        using var stored = new MemoryStream();
        using (var zlib = new ZLibStream(stored, CompressionLevel.Fastest, leaveOpen: true))
        {
            // The last grain is stored whole even if the disk ends inside.
            int inside = Math.Min(GrainSize, Capacity - (grain * GrainSize));
            zlib.Write(Content.AsSpan(grain * GrainSize, inside));
            zlib.Write(new byte[GrainSize - inside]);
        }

        byte[] bytes = new byte[Round(12 + (int)stored.Length, Sector)];
        Put64(bytes, 0, (ulong)(grain * (long)GrainSize / Sector));
        Put32(bytes, 8, (uint)stored.Length);
        stored.ToArray().CopyTo(bytes, 12);
        file.Write(bytes);
    }

    private void WriteHeader(byte[] bytes, int directorySector, int redundantSector, int overhead, bool compressed)
    {
        "KDMV"u8.CopyTo(bytes);
        Put32(bytes, 4, Version);
        Put32(bytes, 8, 1u | (Redundant && !compressed ? 2u : 0) | (Version == 2 ? 4u : 0) | (compressed ? 3u << 16 : 0));
        Put64(bytes, 12, (ulong)(Capacity / Sector));
        Put64(bytes, 20, (ulong)(GrainSize / Sector));
        Put64(bytes, 28, Descriptor == "" ? 0UL : 1);
        Put64(bytes, 36, Descriptor == "" ? 0UL : 20);
        Put32(bytes, 44, (uint)EntriesPerTable);
        Put64(bytes, 48, (ulong)redundantSector);
        Put64(bytes, 56, (ulong)(long)directorySector);
        Put64(bytes, 64, (ulong)overhead);
        "\n \r\n"u8.CopyTo(bytes.AsSpan(73));
        bytes[77] = compressed ? (byte)1 : (byte)0;
    }

    private void WriteDescriptor(byte[] bytes, string createType)
    {
        string text = Descriptor ?? MakeDescriptor(createType, $"RW {Capacity / Sector} SPARSE \"disk.vmdk\"");
        Encoding.UTF8.GetBytes(text).CopyTo(bytes, Sector);
    }
}
